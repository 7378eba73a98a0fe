import {
  modelSource,
  urlFiles,
  type DecoderSource,
  type ModelFiles,
  type PromptFrame,
  type UrlFilesOptions,
} from '@ensample/mixattn-model';
import { packagedFiles } from '#files';
import { codeFrame } from './frame.ts';

/** A model that an engine can load, and the draft that goes with it. */
export interface CodeModel extends DecoderSource {
  readonly frame: PromptFrame;
  /** Where its files are; the options apply to downloads. */
  files(options?: UrlFilesOptions): ModelFiles;
  /** A small model with the same tokenizer, for speculative decoding. */
  readonly draft?: () => CodeModel;
}

export interface SourceOptions {
  /**
   * URL of a copy of this package's `models` folder, e.g. `/models/` on your own site.
   * Default: the package itself, from disk in Node and from where its code was loaded in browsers.
   */
  baseUrl?: string | URL;
}

/** js-22m: 21.3 M parameters, MixAttention, JavaScript and TypeScript; context of 2048 tokens; 22.7 MB. */
export function js22m(options: SourceOptions = {}): CodeModel {
  return { ...source('js-22m', options), draft: () => js1mDraft(options) };
}

/** js-1m-draft: 1.44 M parameters, distilled from js-22m to draft for it; 1.5 MB. */
export function js1mDraft(options: SourceOptions = {}): CodeModel {
  return source('js-1m-draft', options);
}

function source(name: string, { baseUrl }: SourceOptions): CodeModel {
  const files = (options?: UrlFilesOptions) =>
    baseUrl === undefined ? packagedFiles(name, options) : urlFiles(modelUrl(baseUrl, name), options);
  return { ...modelSource(name, files, codeFrame), frame: codeFrame, files };
}

function modelUrl(baseUrl: string | URL, name: string): string {
  return `${String(baseUrl).replace(/\/$/, '')}/${name}/`;
}
