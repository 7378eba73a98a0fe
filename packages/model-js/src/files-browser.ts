import { urlFiles, type ModelFiles, type UrlFilesOptions } from '@ensample/mixattn-model';

/** The files of a model inside this package, from where the package is served. */
export function packagedFiles(name: string, options?: UrlFilesOptions): ModelFiles {
  const models = new URL(/* @vite-ignore */ '../models/', import.meta.url);
  return urlFiles(new URL(`${name}/`, models), options);
}
