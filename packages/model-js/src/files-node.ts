import type { ModelFiles, UrlFilesOptions } from '@ensample/mixattn-model';
import { diskFiles } from '@ensample/mixattn-model/node';

/** The files of a model inside this package, read from disk: options of downloads have no use. */
export const packagedFiles: (name: string, options?: UrlFilesOptions) => ModelFiles = (name) =>
  diskFiles(new URL(`../models/${name}/`, import.meta.url));
