import type { LossRun } from './loss-run.ts';
import { gapsWithin, plainRows, spanRows, type RowOptions } from './rows.ts';
import type { TokenStream } from './text.ts';

/** A mean over rows with its standard error. Losses are in nats per token. */
export interface Estimate {
  readonly mean: number;
  /** NaN with a single row. */
  readonly error: number;
}

/** How well a model predicts a text. */
export interface Quality {
  readonly loss: Estimate;
  /** e to the loss. */
  readonly perplexity: number;
  /** The loss in bits for each byte of text: compares models with other tokenizers. */
  readonly bitsPerByte: number;
  /** Mean loss where `from` to `to` tokens came before in the row. */
  readonly byPosition: readonly { readonly from: number; readonly to: number; readonly loss: Estimate }[];
  /** Mean loss on a span that already stood `gap` tokens before. */
  readonly copies: readonly { readonly gap: number; readonly loss: Estimate }[];
  /** Mean loss on the same spans where they did not stand before. */
  readonly unseen: Estimate;
}

/** Where the bands of positions begin. */
const bands = [0, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768];

/** Loss by position, and of copies by distance. */
export async function measureQuality(
  run: Pick<LossRun, 'losses'>,
  text: TokenStream,
  options: RowOptions,
): Promise<Quality> {
  const { length } = options;
  const losses = await run.losses(plainRows(text.tokens, options));
  const loss = estimate(losses);
  const starts = bands.filter((start) => start < length);
  const copies: Quality['copies'][number][] = [];
  for (const gap of gapsWithin(length)) {
    copies.push({ gap, loss: estimate(await run.losses(spanRows(text.tokens, options, gap))) });
  }
  return {
    loss,
    perplexity: Math.exp(loss.mean),
    bitsPerByte: ((loss.mean / Math.LN2) * text.tokens.length) / text.bytes,
    byPosition: starts.map((from, i) => {
      const end = starts[i + 1] ?? length;
      return { from, to: end - 1, loss: estimate(losses.map((row) => row.subarray(from, end))) };
    }),
    copies,
    unseen: estimate(await run.losses(spanRows(text.tokens, options))),
  };
}

function estimate(rows: readonly Float32Array[]): Estimate {
  const means = rows.map(mean);
  const all = mean(means);
  const variance = means.reduce((sum, value) => sum + (value - all) ** 2, 0) / (means.length - 1);
  return { mean: all, error: Math.sqrt(variance / means.length) };
}

function mean(values: ArrayLike<number>): number {
  return Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;
}
