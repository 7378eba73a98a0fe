import { kernel, sequenceChunk, type Batch, type GpuTensor, type Pass } from '@ensample/tensor';
import { acceptBody, clearBody, layOutRowsBody } from './round.wgsl.ts';

/** What a row's result says of its sample. `idle`: nothing came of the row. `invalid`: a strategy guessed no token of the vocabulary. */
export const status = { running: 0, stop: 1, length: 2, idle: 3, invalid: 4 } as const;

/** Samples and their tokens as kernels see them; see `sequenceChunk` of `@ensample/tensor`. */
export interface RoundTensors {
  /** `[1 + samples, 4]`: see {@link encodeSlots}. */
  readonly slots: GpuTensor<'u32'>;
  /** `[sequences, 16]` */
  readonly sequences: GpuTensor<'u32'>;
  /** `[sequences, 4]` */
  readonly states: GpuTensor<'u32'>;
  /** The prompt's tokens, then each sequence's; guesses carry their origin in the top 8 bits. */
  readonly history: GpuTensor<'u32'>;
}

/** A running sample of a round. */
export interface Slot {
  /** Its leaf in the attention plan. */
  readonly leaf: number;
  readonly sequence: number;
}

/** The running samples, in the order of the plan, with `rows` rows each. */
export function encodeSlots(slots: readonly Slot[], rows: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from([
    ...[slots.length, rows, 0, 0],
    ...slots.flatMap(({ leaf, sequence }) => [leaf, sequence, 0, 0]),
  ]);
}

/** Begins a round with drafts: no place has a guess yet. */
export function clearGuesses(pass: Pass, { slots, sequences, states, history }: RoundTensors): void {
  const tensors = { slots, sequences, states, history };
  pass.run(kernel('clear_guesses', {}, sequenceChunk, clearBody), tensors, [groupsOf(slots)]);
}

/**
 * Writes the rows of a step: each sample's pending token and its guesses.
 * @param whose `'target'`: the pending token comes first; `'draft'`: last, after those that the draft model lacks.
 */
export function layOutRows(
  pass: Pass,
  { slots, sequences, states, history, batch }: RoundTensors & { readonly batch: Batch },
  whose: 'target' | 'draft' = 'target',
): void {
  const constants = { BEHIND: whose === 'draft' ? 1 : 0 };
  const tensors = { slots, sequences, states, history, batch };
  pass.run(kernel('lay_out_rows', { constants }, sequenceChunk, layOutRowsBody), tensors, [1]);
}

/** Tensors of {@link accept}. */
export interface AcceptTensors extends RoundTensors {
  /** `[rows, 4]`, of `sample`; where a rule other than `coupled` holds, changed by it. */
  readonly picks: GpuTensor<'u32'>;
  /** Number of stop tokens, then their ids. */
  readonly stops: GpuTensor<'u32'>;
  /** `[rows, 4]` to fill: token, log-probability as f32 bits, status, origin of the guess + 256 if it was kept. */
  readonly results: GpuTensor<'u32'>;
}

/**
 * Ends a round: each sample keeps its guesses while they equal what was drawn in their place, and one token more
 * (BASS, arXiv 2404.15778 §2: x + 1 tokens of x accepted). Each sample goes its own length; what is rejected needs no
 * undoing, since positions past the pending token are written again.
 */
export function accept(pass: Pass, tensors: AcceptTensors, { vocab }: { vocab: number }): void {
  const { slots, sequences, states, history, picks, stops, results } = tensors;
  const constants = {
    ...{ RUNNING: status.running, STOP: status.stop, LENGTH: status.length, IDLE: status.idle },
    ...{ INVALID: status.invalid, VOCAB: vocab },
  };
  const code = kernel('accept', { constants }, sequenceChunk, acceptBody);
  pass.run(code, { slots, sequences, states, history, picks, stops, results }, [groupsOf(slots)]);
}

/** Workgroups of 64 that have an invocation a sample. */
export function groupsOf(slots: GpuTensor<'u32'>): number {
  return Math.ceil((slots.byteLength / 16 - 1) / 64);
}
