import { urlFiles, type ModelFiles, type UrlFilesOptions } from '@ensample/mixattn-model';
import { packagedFiles } from '#files';
import { codeFrame, type FramedPrompt, type PromptFrame } from './frame.ts';

export type { FramedPrompt, PromptFrame };

/** A model that an engine can load: where its files are, how prompts are framed, which draft goes with it. */
export interface ModelSource {
  readonly name: string;
  /** Options apply to downloads; files on disk need none. */
  files(options?: UrlFilesOptions): Promise<ModelFiles>;
  readonly frame: PromptFrame;
  /** A small model with the same tokenizer, for speculative decoding. */
  readonly draft?: () => ModelSource;
}

export interface SourceOptions {
  /**
   * URL of a copy of this package's `models` folder, e.g. `/models/` on your own site.
   * Default: the package itself, from disk in Node and from where its code was loaded in browsers.
   */
  baseUrl?: string | URL;
}

/** js-22m: 21.3 M parameters, MixAttention, JavaScript and TypeScript; context of 2048 tokens; 22.7 MB. */
export function js22m(options: SourceOptions = {}): ModelSource {
  return { ...source('js-22m', options), draft: () => js1mDraft(options) };
}

/** js-1m-draft: 1.44 M parameters, distilled from js-22m to draft for it; 1.5 MB. */
export function js1mDraft(options: SourceOptions = {}): ModelSource {
  return source('js-1m-draft', options);
}

function source(name: string, { baseUrl }: SourceOptions): ModelSource {
  return {
    name,
    frame: codeFrame,
    files: (options) => {
      const packaged = baseUrl === undefined;
      return Promise.resolve(
        packaged ? packagedFiles(name, options) : urlFiles(modelUrl(baseUrl, name), options),
      );
    },
  };
}

function modelUrl(baseUrl: string | URL, name: string): string {
  return `${String(baseUrl).replace(/\/$/, '')}/${name}/`;
}
