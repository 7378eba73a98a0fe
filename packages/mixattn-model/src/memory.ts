import { defaultDraftLimit, kvBytes, largestFitting, longestDraft, type KvLayout } from '@ensample/kv-cache';
import { InvalidOptionError, matrixBytes, type WeightFormat } from '@ensample/tensor';
import type { ModelConfig } from './config.ts';

/** What is to be run. */
export interface MemoryOptions {
  /** Samples of one prompt. Default 1. */
  readonly n?: number;
  readonly promptTokens: number;
  /** Tokens of a sample. */
  readonly maxTokens: number;
  /**
   * Longest draft of a round, from 0 (an engine with `draft: 'none'`) to 32. Default: what an engine with drafts keeps
   * room for, 32 or what its rows allow.
   */
  readonly draftLength?: number;
  /** Format of the weights. Default: int8 or int4 where the config says so, else f16. */
  readonly weights?: WeightFormat;
  /** Element type of the KV cache. Default `'f16'`; devices without shader-f16 have f32. */
  readonly kvType?: 'f32' | 'f16';
  /** Tokens in a page. Default 32, as engines have it. */
  readonly pageTokens?: number;
  /** Rows of a prefill step; see `prefillRows` of `@ensample/kv-cache`. Default 256, as on GPUs without subgroup matrices. */
  readonly prefillRows?: number;
  /** Bytes that a device can bind: larger matrices are cut into blocks. Default 2 GiB − 4. */
  readonly maxBindingBytes?: number;
}

/** Bytes on the device. */
export interface MemoryPlan {
  /** Of weights and tables, once the model is loaded. */
  readonly weights: number;
  /** Of the KV cache, in an engine whose cache was empty, while the run lasts. */
  readonly kv: number;
  /** Both. Activations, logits and attention's partial results come on top: they depend on a step's rows, not on length. */
  readonly total: number;
}

/**
 * What a model and a run will take, before anything is loaded: equal to what is then allocated, to the byte, as long as
 * the pages of a kind fit in one buffer.
 * @throws InvalidOptionError for numbers out of their range, or more tokens than the context has.
 */
export function planMemory(config: ModelConfig, options: MemoryOptions): MemoryPlan {
  const { n = 1, promptTokens, maxTokens, draftLength } = options;
  checkInteger('n', n, 1, 256);
  checkInteger('promptTokens', promptTokens, 1, config.contextLength - 1);
  checkInteger('maxTokens', maxTokens, 1, config.contextLength - promptTokens);
  if (draftLength !== undefined) checkInteger('draftLength', draftLength, 0, defaultDraftLimit);
  const { kvType = 'f16', pageTokens = 32, prefillRows = 256 } = options;
  const longest = Math.min(draftLength ?? defaultDraftLimit, longestDraft(n, config.vocabSize));
  const run = { samples: n, promptTokens, maxTokens, longestDraft: longest, prefillRows };
  const storage = { pageTokens, draftLimit: defaultDraftLimit, dtype: kvType };
  const weights = weightBytes(config, options);
  const kv = kvBytes(layoutOf(config), run, storage);
  return { weights, kv, total: weights + kv };
}

/** Most samples whose plan fits in `bytes`; 0 where not even one does. At most 256. */
export function mostSamples(config: ModelConfig, bytes: number, options: Omit<MemoryOptions, 'n'>): number {
  return largestFitting(256, (n) => planMemory(config, { ...options, n }).total <= bytes);
}

/**
 * Longest prompt, in tokens, whose plan fits in `bytes`, beside samples of `maxTokens`; 0 where not even one token does.
 */
export function longestPrompt(
  config: ModelConfig,
  bytes: number,
  options: Omit<MemoryOptions, 'promptTokens'>,
): number {
  const most = config.contextLength - options.maxTokens;
  return largestFitting(
    most,
    (promptTokens) => planMemory(config, { ...options, promptTokens }).total <= bytes,
  );
}

/** Bytes of weights, norms and rotary tables. */
function weightBytes(config: ModelConfig, options: MemoryOptions): number {
  const { hiddenSize, intermediateSize, vocabSize, heads, kvHeads, headDim, contextLength } = config;
  const stored = config.quantization ? (`int${config.quantization.bits}` as const) : 'f16';
  const { weights: format = stored, maxBindingBytes = 2 ** 31 - 4 } = options;
  const matrix = (rows: number, columns: number, as = format) =>
    matrixBytes({ format: as, rows, columns }, maxBindingBytes);
  const table = matrix(vocabSize, hiddenSize, format === 'int4' ? 'int8' : format);
  const layers = config.layers.map(({ kvSource }, i) => {
    const qkvRows = (heads + (kvSource === i ? 2 * kvHeads : 0)) * headDim;
    const attention = matrix(qkvRows, hiddenSize) + matrix(hiddenSize, heads * headDim);
    const feedForward = matrix(2 * intermediateSize, hiddenSize) + matrix(hiddenSize, intermediateSize);
    return attention + feedForward + 4 * 2 * hiddenSize;
  });
  const norms = 4 * hiddenSize;
  const angles = 4 * contextLength * headDim;
  const tables = config.tieEmbeddings ? table : 2 * table;
  return layers.reduce((sum, bytes) => sum + bytes, tables + norms + angles);
}

function layoutOf({ layers, kvHeads, headDim }: ModelConfig): KvLayout {
  return { layers, kvHeads, headDim };
}

function checkInteger(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new InvalidOptionError(`${name} is ${value}: it must be an integer from ${least} up to ${most}`);
}
