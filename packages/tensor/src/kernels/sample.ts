import { kernel } from '../kernel.ts';
import type { Pass } from '../pass.ts';
import type { GpuTensor } from '../tensor.ts';
import type { Batch } from './elementwise.ts';
import { reducingKernel } from './reduce.ts';
import { adjustBody, advanceBody, compactBody, philox, sampleBody, sequenceStruct } from './sample.wgsl.ts';

/** What a row's result says of its sequence after a step. */
export const status = { running: 0, stop: 1, length: 2, idle: 3 } as const;

const statusConstants = {
  RUNNING: status.running,
  STOP: status.stop,
  LENGTH: status.length,
  IDLE: status.idle,
};

/** How one sequence is sampled; see {@link encodeSequence} for the words that kernels read. */
export interface SequenceSampling {
  /** Seed of this sequence (request seed + sample index); an integer from 0 to 2⁵³ − 1. */
  readonly seed: number;
  /** 0 is greedy. */
  readonly temperature: number;
  /** Keep the k likeliest tokens; 0 is off. */
  readonly topK: number;
  /** Keep the likeliest tokens that reach this mass; 1 is off. */
  readonly topP: number;
  /** Keep tokens at least this fraction as likely as the likeliest; 0 is off. */
  readonly minP: number;
  /** 1 is off. */
  readonly repetitionPenalty: number;
  /** 0 is off. */
  readonly presencePenalty: number;
  /** 0 is off. */
  readonly frequencyPenalty: number;
  /** Position of the first generated token. */
  readonly start: number;
  /** Position at which generation must have ended. */
  readonly end: number;
  /** Row of the token counts. */
  readonly counts: number;
}

/** Words of a sequence's sampling state. */
export const sequenceWords = 16;

/** Word of {@link encodeSequence}'s record that stops a sequence when set to 1. */
export const finishedWord = 11;

/** The 16 words of `struct Sequence` in sample.wgsl.ts. */
export function encodeSequence(s: SequenceSampling): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(sequenceWords);
  const floats = new Float32Array(words.buffer);
  words[0] = s.seed % 2 ** 32;
  words[1] = Math.floor(s.seed / 2 ** 32);
  floats[2] = s.temperature;
  words[3] = s.topK;
  floats.set([s.topP, s.minP, s.repetitionPenalty, s.presencePenalty, s.frequencyPenalty], 4);
  words.set([s.start, s.end, 0, s.counts], 9);
  return words;
}

/** Tensors of {@link sample}. */
export interface SampleTensors {
  readonly batch: Batch;
  /** `[sequences, 16]` */
  readonly sequences: GpuTensor<'u32'>;
  /** `[rows, vocab]`, the model's own: log-probabilities are of these. */
  readonly logits: GpuTensor<'f32'>;
  /** `[rows, vocab]`, after {@link adjust}; the logits themselves where there is nothing to adjust. */
  readonly adjusted: GpuTensor<'f32'>;
  /** `[rows, 4]`: token, log-probability as f32 bits. */
  readonly picks: GpuTensor<'u32'>;
}

/**
 * Draws a token for each row: temperature, top-k, top-p, min-p, then Gumbel-max with Philox noise keyed
 * by (seed, position, token id). The same noise for the same key is what makes draws reproducible in any
 * batch, and lets a draft model draw with the target's noise.
 */
export function sample(
  pass: Pass,
  tensors: SampleTensors,
  { vocab, rows }: { vocab: number; rows: number },
): void {
  const constants = { VOCAB: vocab };
  const code = reducingKernel(pass.device.tier, 'sample', { constants }, sequenceStruct, philox, sampleBody);
  pass.run(code, { ...tensors }, [rows]);
}

/** Applies logit bias and penalties; counts each row's input token where it was generated. */
export function adjust(
  pass: Pass,
  tensors: {
    readonly batch: Batch;
    readonly sequences: GpuTensor<'u32'>;
    readonly logits: GpuTensor<'f32'>;
    /** `[vocab]`, added to the logits. */
    readonly bias: GpuTensor<'f32'>;
    /** `[sequences, vocab]`: times generated; top bit: in the prompt. */
    readonly counts: GpuTensor<'u32'>;
    readonly adjusted: GpuTensor<'f32'>;
  },
  { vocab, rows }: { vocab: number; rows: number },
): void {
  const code = kernel('adjust', { constants: { VOCAB: vocab } }, sequenceStruct, adjustBody);
  pass.run(code, tensors, [Math.ceil(vocab / 64), rows]);
}

/** Makes the picks the next step's input and reports them: results `[rows, 4]`. */
export function advance(
  pass: Pass,
  tensors: {
    readonly batch: Batch;
    readonly sequences: GpuTensor<'u32'>;
    readonly picks: GpuTensor<'u32'>;
    /** Number of stop tokens, then their ids. */
    readonly stops: GpuTensor<'u32'>;
    readonly results: GpuTensor<'u32'>;
  },
): void {
  pass.run(kernel('advance', { constants: statusConstants }, sequenceStruct, advanceBody), tensors, [1]);
}

/** Keeps some rows of a batch, in a new order (at most 256): `moves` is `[1 + rows, 2]`. */
export function compact(
  pass: Pass,
  tensors: { readonly batch: Batch; readonly moves: GpuTensor<'u32'> },
): void {
  pass.run(kernel('compact', {}, compactBody), tensors, [1]);
}
