import { modelSource, urlFiles, type ModelFiles } from '@ensample/mixattn-model';
import { diskFiles } from '@ensample/mixattn-model/node';
import { js22m } from '@ensample/model-js';
import type { ModelSource } from '@ensample/runtime';

/** A model that a command works with. */
export interface ChosenModel {
  readonly source: ModelSource;
  readonly files: ModelFiles;
  /** It knows file names and gaps. */
  readonly framed: boolean;
}

/** The embedded model, or the one in a folder or below a URL. */
export function chooseModel(place: string | undefined): ChosenModel {
  if (place === undefined) {
    const source = js22m();
    return { source, files: source.files(), framed: true };
  }
  if (isUrl(place)) {
    const files = urlFiles(place);
    const source = modelSource(files.name, (options) => urlFiles(place, options));
    return { source, files, framed: false };
  }
  const files = diskFiles(place);
  return { source: modelSource(files.name, files), files, framed: false };
}

/** Whether a place is on the web rather than on disk. */
export function isUrl(place: string): boolean {
  return /^https?:\/\//.test(place);
}
