import {
  orderedChunk,
  philoxChunk,
  reducingKernel,
  rowLanes,
  sequenceChunk,
  type Batch,
  type GpuTensor,
  type Pass,
} from '@ensample/tensor';
import type { Laws } from './draft.ts';
import { lawChunk, rejectBody } from './draft.wgsl.ts';
import type { RoundTensors } from './round.ts';

/** What a rule may read, and the picks that it may change. */
export interface JudgeTensors extends Omit<RoundTensors, 'slots'> {
  readonly batch: Batch;
  /** `[rows, vocab]`, the target's own. */
  readonly logits: GpuTensor<'f32'>;
  /** `[rows, vocab]`, after bias and penalties. */
  readonly adjusted: GpuTensor<'f32'>;
  /** `[rows, 4]`: token, log-probability as f32 bits, threshold. */
  readonly picks: GpuTensor<'u32'>;
  /** Given where the rule says that it `needsLaws`. */
  readonly laws?: Laws;
}

/** Sizes of {@link AcceptanceRule.judge}. */
export interface JudgeShape {
  readonly vocab: number;
  readonly rows: number;
  /** Origin of guesses that have a law: the draft model's place among the strategies, from 1; 0 without one. */
  readonly model: number;
}

/**
 * Decides about guesses: a guess is kept where it equals the pick of the row before it, and a rule may change the
 * picks, which `sample` drew from the target, before they are compared.
 */
export interface AcceptanceRule {
  /** Engines keep what they recorded by it: rules that differ need different names. */
  readonly name: string;
  /** Whether the draft model must write down what its guesses were drawn from. */
  readonly needsLaws: boolean;
  judge?(pass: Pass, tensors: JudgeTensors, shape: JudgeShape): void;
}

/**
 * Draft and target draw with the same noise (Gumbel-max with common random numbers); a guess is kept while it equals
 * the target's own draw. What comes out is what plain decoding gives, for every strategy and draft length.
 */
export const coupled: AcceptanceRule = { name: 'coupled', needsLaws: false };

/**
 * Speculative sampling as BASS has it (arXiv 2404.15778 §2): a guess is taken with probability min(1, p / q), else the
 * normalised positive part of p − q is drawn from. The law is the target's; the text depends on where drafts end.
 */
export const rejection: AcceptanceRule = {
  name: 'rejection',
  needsLaws: true,
  judge(pass, { laws, batch, sequences, states, history, logits, adjusted, picks }, shape) {
    const { vocab, rows, model } = shape;
    // Without a draft model no guess has a law; the binding still wants a buffer.
    const guesses = laws?.guesses ?? 1;
    const lanes = rowLanes(pass.device, vocab);
    const constants = { VOCAB: vocab, GUESSES: guesses, MODEL: laws ? model : 0, REDUCE_WIDTH: lanes };
    const chunks = [sequenceChunk, philoxChunk, orderedChunk, lawChunk, rejectBody];
    const code = reducingKernel(pass.device.tier, 'reject', { constants }, ...chunks);
    const tensors = {
      batch,
      sequences,
      states,
      history,
      logits,
      adjusted,
      laws: laws?.tensor ?? logits,
      picks,
    };
    pass.run(code, tensors, [rows]);
  },
};
