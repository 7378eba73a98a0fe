import { kernel } from '../kernel.ts';
import type { Pass } from '../pass.ts';
import type { GpuTensor } from '../tensor.ts';
import type { Batch } from './elementwise.ts';
import { reducingKernel, rowLanes } from './reduce.ts';
import {
  adjustBody,
  orderedChunk,
  philoxChunk,
  sampleBody,
  sequenceChunk,
  tallyBody,
} from './sample.wgsl.ts';
import { thresholdChunk } from './threshold.wgsl.ts';

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
  /** Its own tokens lie in the history from this + start on; the prompt's, shared by all, from 0 on. */
  readonly history: number;
  /** Row of the token counts. */
  readonly counts: number;
}

/** Words of a sequence's sampling state. */
export const sequenceWords = 16;

/** The 16 words of `struct Sequence` in sample.wgsl.ts. */
export function encodeSequence(s: SequenceSampling): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(sequenceWords);
  const floats = new Float32Array(words.buffer);
  words[0] = s.seed % 2 ** 32;
  words[1] = Math.floor(s.seed / 2 ** 32);
  floats[2] = s.temperature;
  words[3] = s.topK;
  floats.set([s.topP, s.minP, s.repetitionPenalty, s.presencePenalty, s.frequencyPenalty], 4);
  words.set([s.start, s.end, s.history, s.counts], 9);
  return words;
}

/** Words of a sequence's state. */
export const stateWords = 4;

/** Word of {@link encodeState}'s record that stops a sequence when set to 1. */
export const finishedWord = 1;

/**
 * Where a sequence stands before its first step: the prompt's last token is pending, at position start − 1; a draft
 * model has all before it.
 */
export function encodeState(start: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.of(start - 1, 0, start, start - 1);
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
  /** `[rows, 4]`: token, log-probability as f32 bits, and the threshold that a logit must reach to be drawn. */
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
  const chunks = [sequenceChunk, philoxChunk, orderedChunk, thresholdChunk, sampleBody];
  const constants = { VOCAB: vocab, REDUCE_WIDTH: rowLanes(pass.device, vocab) };
  const code = reducingKernel(pass.device.tier, 'sample', { constants }, ...chunks);
  pass.run(code, { ...tensors }, [rows]);
}

/** Tensors of {@link adjust}. */
export interface AdjustTensors {
  readonly batch: Batch;
  /** `[sequences, 16]` */
  readonly sequences: GpuTensor<'u32'>;
  /** `[sequences, 4]` */
  readonly states: GpuTensor<'u32'>;
  /** Tokens by position, guesses included. */
  readonly history: GpuTensor<'u32'>;
  readonly logits: GpuTensor<'f32'>;
  /** `[vocab]`, added to the logits. */
  readonly bias: GpuTensor<'f32'>;
  /** `[sequences, vocab]`: times generated; top bit: in the prompt. */
  readonly counts: GpuTensor<'u32'>;
  readonly adjusted: GpuTensor<'f32'>;
}

/** Applies logit bias and penalties to each row, for all tokens up to the row's own; see {@link tally}. */
export function adjust(
  pass: Pass,
  tensors: AdjustTensors,
  { vocab, rows }: { vocab: number; rows: number },
): void {
  const code = kernel('adjust', { constants: { VOCAB: vocab } }, sequenceChunk, adjustBody);
  pass.run(code, { ...tensors }, [Math.ceil(vocab / 64), rows]);
}

/** Adds to the counts what was decided since the last time, for all sequences. Run it before {@link adjust}. */
export function tally(
  pass: Pass,
  tensors: Pick<AdjustTensors, 'sequences' | 'states' | 'history' | 'counts'>,
  { vocab }: { vocab: number },
): void {
  const code = kernel('tally', { constants: { VOCAB: vocab } }, sequenceChunk, tallyBody);
  pass.run(code, tensors, [Math.ceil(tensors.states.byteLength / (4 * stateWords) / 64)]);
}
