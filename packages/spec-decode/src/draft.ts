import {
  kernel,
  orderedChunk,
  reducingKernel,
  rowLanes,
  sequenceChunk,
  type Batch,
  type GpuTensor,
  type Pass,
} from '@ensample/tensor';
import { advanceDraftBody, keepLawBody, lawChunk } from './draft.wgsl.ts';
import type { RoundTensors } from './round.ts';

/** Tensors of a draft model's step. */
export interface DraftTensors extends Omit<RoundTensors, 'slots'> {
  /** The draft model's own rows. */
  readonly batch: Batch;
  /** `[rows, 4]`: what it drew. */
  readonly picks: GpuTensor<'u32'>;
}

/**
 * Takes a draft model's draws as guesses of strategy `origin` (from 1) and makes them its next step's input, one row a
 * sample. Where a strategy before it has a guess, that becomes the input: the model follows it and goes on behind.
 */
export function advanceDraft(pass: Pass, tensors: DraftTensors, { origin }: { origin: number }): void {
  const { batch, sequences, history, picks } = tensors;
  const code = kernel('advance_draft', { constants: { ORIGIN: origin } }, sequenceChunk, advanceDraftBody);
  pass.run(code, { batch, sequences, history, picks }, [1]);
}

/** The laws that guesses were drawn from, for rule `rejection`: `[sequences, guesses, vocab]` probabilities. */
export interface Laws {
  readonly tensor: GpuTensor<'f32'>;
  /** Guesses that there is room for, per sequence. */
  readonly guesses: number;
}

/** Writes down the laws of the draws in `picks`, for up to `samples` samples. Run it before {@link advanceDraft}. */
export function keepLaw(
  pass: Pass,
  tensors: DraftTensors & { readonly adjusted: GpuTensor<'f32'>; readonly laws: Laws },
  { vocab, samples }: { vocab: number; samples: number },
): void {
  const { batch, sequences, states, adjusted, picks, laws } = tensors;
  const constants = { VOCAB: vocab, GUESSES: laws.guesses, REDUCE_WIDTH: rowLanes(pass.device, vocab) };
  const chunks = [sequenceChunk, orderedChunk, lawChunk, keepLawBody];
  const code = reducingKernel(pass.device.tier, 'keep_law', { constants }, ...chunks);
  pass.run(code, { batch, sequences, states, adjusted, picks, laws: laws.tensor }, [samples]);
}
