import type { Attention } from '@ensample/bifurcated-attn';
import type { KvLayout } from '@ensample/kv-cache';
import type { Batch, Device, GpuTensor, Pass } from '@ensample/tensor';

/** Text to token ids and back. */
export interface Tokenizer {
  readonly vocabSize: number;
  /** Text that looks like a special token is encoded as the plain text it is. */
  encode(text: string): number[];
  /** Special tokens are left out. */
  decode(ids: readonly number[]): string;
  /** The id of a special token. */
  specialId(content: string): number;
  /** Decodes tokens as they come, never giving half a character. */
  stream(): TextStream;
}

/** Decodes one sample's tokens as they come. */
export interface TextStream {
  push(id: number): string;
  flush(): string;
}

/** A prompt as a person gives it. */
export interface TextPrompt {
  readonly text: string;
  /** For code models: the file that the text is from. */
  readonly fileName?: string;
  /** For models that fill gaps: the text after the gap. */
  readonly suffix?: string;
}

/** Text, text with its surroundings, or token ids taken as they are. */
export type Prompt = string | TextPrompt | readonly number[];

/** Puts a prompt into the form a model was trained on. */
export interface PromptFrame {
  encode(tokenizer: Tokenizer, prompt: TextPrompt): number[];
}

/** Buffers a model writes while it runs. */
export interface ModelActivations {
  readonly rows: number;
  destroy(): void;
}

/** A decoder on a device. `Decoder` of `@ensample/mixattn-model` is one. */
export interface Model<A extends ModelActivations = ModelActivations> {
  readonly config: {
    readonly vocabSize: number;
    /** Most tokens of prompt and output together. */
    readonly contextLength: number;
    /** Query heads. */
    readonly heads: number;
    readonly eosTokenIds: readonly number[];
  };
  readonly layout: KvLayout;
  activations(rows: number): A;
  /** Records a step. */
  forward(pass: Pass, step: ModelStep<A>): void;
  destroy(): void;
}

/** What {@link Model.forward} records. */
export interface ModelStep<A extends ModelActivations = ModelActivations> extends StepResult {
  readonly batch: Batch;
  readonly attention: Attention;
  readonly activations: A;
  /** Row capacity; the batch holds the actual count. */
  readonly rows: number;
}

/** What a step is for. */
export interface StepResult {
  /** `[rows, vocab]` to fill; without it, the step stores keys and values only. */
  readonly logits?: GpuTensor<'f32'>;
  /** Without logits, the last layer whose keys and values are of use: a model may leave out what comes after. Default: all are. */
  readonly lastOwner?: number;
}

/** What {@link ModelSource.load} gives. */
export interface LoadedModel {
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  /** Without one, text is encoded as it is. */
  readonly frame?: PromptFrame;
}

/** Progress of loading: files in transformers.js' form, then layers uploaded, then `ready`. */
export type LoadProgress =
  | {
      readonly status: 'initiate' | 'progress' | 'done';
      readonly name: string;
      readonly file: string;
      /** Percent. */
      readonly progress: number;
      readonly loaded: number;
      readonly total: number;
    }
  | { readonly status: 'upload'; readonly name: string; readonly layer: number; readonly layers: number }
  | { readonly status: 'ready'; readonly name: string };

/** Options of {@link ModelSource.load}. */
export interface LoadOptions {
  /** Bring the weights to groups of int8 or int4 while loading. Default: as they are stored. */
  readonly weights?: 'int8' | 'int4';
  readonly onProgress?: (progress: LoadProgress) => void;
  readonly signal?: AbortSignal;
}

/** Where a model comes from: `js22m()` of `@ensample/model-js`, `modelSource(files)` of `@ensample/mixattn-model`. */
export interface ModelSource {
  readonly name: string;
  /** @throws InvalidModelError for damaged or unsupported files; nothing stays on the device then. */
  load(device: Device, options?: LoadOptions): Promise<LoadedModel>;
  /** A small model with the same tokenizer, to draft for this one. */
  draft?(): ModelSource;
}
