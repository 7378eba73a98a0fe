import type { Sequence } from '@ensample/kv-cache';
import type { DecoderRun } from './decoder-run.ts';

/** One case of a model's golden.json: f32 results of another implementation. */
export interface GoldenCase {
  readonly prompt: string;
  readonly ids: readonly number[];
  /** The largest logits after the last prompt token. */
  readonly last_top_ids: readonly number[];
  readonly last_top_logits: readonly number[];
  /** Of all logits after the last prompt token. */
  readonly logit_mean: number;
  /** The same; divides by n − 1. */
  readonly logit_std: number;
  /** Log-sum-exp of the logits at every prompt position. */
  readonly row_lse: readonly number[];
  /** The likeliest tokens that follow, one after the other. */
  readonly greedy: readonly number[];
}

/** How far results may be from the golden ones. */
export interface GoldenTolerance {
  /** Of a logit, absolute. */
  readonly logit: number;
  /** Another token may be the likeliest where the golden one's logit is less than this below it. */
  readonly tie: number;
}

/** By the element type of the KV cache. A tie is no closer than two logits that both err. */
export const goldenTolerance: Readonly<Record<'f32' | 'f16', GoldenTolerance>> = {
  f32: { logit: 1e-3, tie: 0 },
  f16: { logit: 0.05, tie: 0.05 },
};

/** What a run found. */
export interface GoldenReport {
  /** Largest deviation of a logit or a log-sum-exp. */
  worst: number;
  /** Where near ties went the other way, as `case:step`. */
  ties: string[];
}

/**
 * Runs all cases as sequences of one batch: one step with all prompts, then greedy decoding in steps of one token per
 * case. Each step's input is the golden token, so that a near tie in one step does not end the comparison.
 * @throws Error where a result is off by more than allowed.
 */
export async function checkGolden(
  run: DecoderRun,
  cases: readonly GoldenCase[],
  { logit, tie }: GoldenTolerance,
  most: number = Infinity,
): Promise<GoldenReport> {
  const report: GoldenReport = { worst: 0, ties: [] };
  const sequences = cases.map(() => run.cache.sequence());
  const prompts = await run.step(parts(sequences, (i) => cases[i]?.ids ?? []));
  let last = cases.map((golden, i) => {
    const { worst, row } = comparePrompt(golden, prompts[i]!);
    report.worst = Math.max(report.worst, worst);
    return row;
  });
  must(report.worst < logit, `logits are off by ${report.worst}, more than ${logit}`);
  const steps = Math.min(most, ...cases.map(({ greedy }) => greedy.length));
  for (let step = 0; step < steps; step++) {
    last.forEach((row, i) => {
      const expected = cases[i]?.greedy[step] ?? -1;
      if (likeliest(row) === expected) return;
      const below = row[likeliest(row)]! - row[expected]!;
      must(below < tie, `case ${i}, step ${step}: token ${expected} is ${below} below ${likeliest(row)}`);
      report.ties.push(`${i}:${step}`);
    });
    if (step + 1 < steps) last = await run.step(parts(sequences, (i) => [cases[i]?.greedy[step] ?? 0]));
  }
  for (const sequence of sequences) sequence.release();
  return report;
}

function must(condition: boolean, message: string): void {
  if (!condition) throw new Error(`golden results: ${message}`);
}

function parts(sequences: readonly Sequence[], tokens: (index: number) => readonly number[]) {
  return sequences.map((sequence, i) => ({ sequence, tokens: tokens(i) }));
}

function comparePrompt(golden: GoldenCase, logits: Float32Array): { worst: number; row: Float32Array } {
  const vocab = logits.length / golden.ids.length;
  const rowAt = (index: number) => logits.subarray(vocab * index, vocab * (index + 1));
  const row = rowAt(golden.ids.length - 1);
  const mean = row.reduce((sum, value) => sum + value, 0) / vocab;
  const deviation = Math.sqrt(row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (vocab - 1));
  const errors = [
    ...golden.row_lse.map((expected, i) => logSumExp(rowAt(i)) - expected),
    ...golden.last_top_ids.map((id, i) => row[id]! - golden.last_top_logits[i]!),
    mean - golden.logit_mean,
    deviation - golden.logit_std,
  ];
  return { worst: errors.reduce((most, error) => Math.max(most, Math.abs(error)), 0), row };
}

/** Index of the largest value, the first of equals. */
export function likeliest(row: Float32Array): number {
  return row.reduce((best, value, id) => (value > row[best]! ? id : best), 0);
}

function logSumExp(row: Float32Array): number {
  const largest = row.reduce((most, value) => Math.max(most, value), -Infinity);
  return largest + Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0));
}
