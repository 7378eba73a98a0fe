import { InvalidOptionError, type Device } from '@ensample/tensor';
import { parseConfig, type ModelConfig } from './config.ts';
import { Decoder } from './decoder.ts';
import type { ModelFiles, ProgressEvent, UrlFilesOptions } from './files.ts';
import { quantizedWeights, type QuantizedFormat } from './quantize.ts';
import { openSafetensors } from './safetensors.ts';
import { createTokenizer, type Tokenizer } from './tokenizer.ts';
import { openWeights } from './weights.ts';

/** Progress of {@link modelSource}'s `load`: files, then layers on the device. */
export type LoadProgress =
  | ProgressEvent
  | { readonly status: 'upload'; readonly name: string; readonly layer: number; readonly layers: number };

/** A prompt as a person gives it. */
export interface TextPrompt {
  /** The text to continue. */
  readonly text: string;
  /** For code models: the file that the text is from; its ending tells the language. */
  readonly fileName?: string;
  /** For models that fill gaps: the text after the gap. */
  readonly suffix?: string;
}

/** Puts a prompt into the form a model was trained on. */
export interface PromptFrame {
  encode(tokenizer: Tokenizer, prompt: TextPrompt): number[];
}

/** A model on a device with its tokenizer. */
export interface LoadedDecoder {
  readonly model: Decoder;
  readonly tokenizer: Tokenizer;
  readonly frame?: PromptFrame;
}

/** Satisfies `ModelSource` of `@ensample/runtime`. */
export interface DecoderSource {
  readonly name: string;
  load(device: Device, options?: SourceLoadOptions): Promise<LoadedDecoder>;
}

/** Options of {@link DecoderSource.load}. */
export interface SourceLoadOptions {
  /** Bring the weights to this format while loading; see `quantizedWeights`. Default: as they are stored. */
  readonly weights?: QuantizedFormat;
  readonly onProgress?: (progress: LoadProgress) => void;
  readonly signal?: AbortSignal;
}

/** Files, or a function that finds them with the options of a download. */
export type FilesOf = ModelFiles | ((options: UrlFilesOptions) => ModelFiles | Promise<ModelFiles>);

/**
 * A model for `createEngine` from a Hugging Face folder: config.json, model.safetensors, tokenizer.json,
 * tokenizer_config.json. See `diskFiles` and `urlFiles`.
 */
export function modelSource(name: string, files: FilesOf, frame?: PromptFrame): DecoderSource {
  return {
    name,
    load: async (device, { onProgress, signal, weights } = {}) => {
      checkFormat(weights);
      const download = { ...(onProgress ? { onProgress } : {}), ...(signal ? { signal } : {}) };
      const found = typeof files === 'function' ? await files(download) : files;
      const { config, tokenizer } = await readText(found);
      const onLayer = (layer: number) => {
        onProgress?.({ status: 'upload', name, layer, layers: config.layers.length });
        signal?.throwIfAborted();
      };
      const model = await loadWeights(device, found, config, { onLayer, weights });
      return frame ? { model, tokenizer, frame } : { model, tokenizer };
    },
  };
}

const formats: readonly unknown[] = [undefined, 'int8', 'int4'];

function checkFormat(weights: QuantizedFormat | undefined): void {
  if (!formats.includes(weights)) {
    throw new InvalidOptionError(`weights is ${JSON.stringify(weights)}: it must be 'int8' or 'int4'`);
  }
}

async function readText(files: ModelFiles): Promise<{ config: ModelConfig; tokenizer: Tokenizer }> {
  const config = parseConfig(await files.json('config.json'));
  const tokenizer = createTokenizer(
    await files.json('tokenizer.json'),
    await files.json('tokenizer_config.json'),
  );
  return { config, tokenizer };
}

async function loadWeights(
  device: Device,
  files: ModelFiles,
  config: ModelConfig,
  { onLayer, weights }: { onLayer: (done: number) => void; weights: QuantizedFormat | undefined },
): Promise<Decoder> {
  const name = 'model.safetensors';
  const file = await openSafetensors(await files.bytes(name), `${files.name}/${name}`);
  try {
    const stored = openWeights(config, file);
    const reader = weights ? quantizedWeights(stored, weights) : stored;
    return await Decoder.load(device, config, reader, onLayer);
  } finally {
    await file.close();
  }
}
