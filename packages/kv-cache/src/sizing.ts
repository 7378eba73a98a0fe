import { bytesPerElement, type Tier } from '@ensample/tensor';
import { kindsOf, type KvKind, type KvLayout } from './layout.ts';

/** How KV is stored; what {@link KvCacheOptions} says or defaults to. */
export interface KvStorage {
  readonly pageTokens: number;
  readonly draftLimit: number;
  readonly dtype: 'f32' | 'f16';
}

/**
 * Pages that a segment of `tokens` tokens takes in a kind, when it grows by up to `step` tokens at a time: all of them,
 * or a ring of window + draft limit + step tokens.
 */
export function pagesFor(
  { window }: Pick<KvKind, 'window'>,
  tokens: number,
  step: number,
  { pageTokens, draftLimit }: Pick<KvStorage, 'pageTokens' | 'draftLimit'>,
): number {
  const all = Math.ceil(tokens / pageTokens);
  if (window === undefined) return all;
  return Math.min(all, Math.ceil((window - 1 + draftLimit + step) / pageTokens) + 1);
}

/** Bytes of a page in one owner's buffer. */
export function pageBytes({ kvHeads, headDim }: KvLayout, { pageTokens, dtype }: KvStorage): number {
  return 2 * kvHeads * headDim * pageTokens * bytesPerElement[dtype];
}

/** Tokens by which a leaf may be cut back exactly, by default; the longest draft of a round. */
export const defaultDraftLimit = 32;

/** Rows of a step, at most: enough to fill a device, few enough that logits take no more than 256 MiB. */
function mostRows(vocab: number): number {
  return Math.min(2048, Math.floor(2 ** 28 / (4 * vocab)));
}

/** Longest draft that an engine gives so many samples: all rows of a round are one step. From 1 to 32. */
export function longestDraft(samples: number, vocab: number): number {
  return Math.max(1, Math.min(defaultDraftLimit, Math.floor(mostRows(vocab) / samples) - 1));
}

/**
 * Rows of a prefill step of a model of this width (heads × head size), at most: enough to fill the device, few enough to stay
 * responsive. Subgroup matrices are multiplied in tiles of 128 × 128, of which a large GPU has 132 on its way at once.
 */
export function prefillRows({ attention }: Pick<Tier, 'attention'>, width: number): number {
  if (attention === 'thread') return 64;
  if (attention === 'tile') return 256;
  return width * 1024 <= 128 * 128 ** 2 ? 1024 : 512;
}

/** Many samples of one prompt, as an engine runs them. */
export interface RunSize {
  readonly samples: number;
  readonly promptTokens: number;
  /** Tokens that a sample may have of its own. */
  readonly maxTokens: number;
  /** Longest draft of a round; 0 without speculation. */
  readonly longestDraft: number;
  /** Rows of a prefill step, at most. */
  readonly prefillRows: number;
}

/** Rounds that an engine has in flight: their tokens are reserved before it is known how many are kept. */
export const roundsInFlight = 2;

/** Pages, by kind, of a prompt: all its tokens but the last, which every sample begins with. */
export function promptPages(
  kinds: readonly KvKind[],
  { promptTokens, prefillRows }: Pick<RunSize, 'promptTokens' | 'prefillRows'>,
  storage: Pick<KvStorage, 'pageTokens' | 'draftLimit'>,
): number[] {
  const tokens = promptTokens - 1;
  return kinds.map((kind) => pagesFor(kind, tokens, Math.min(prefillRows, tokens), storage));
}

/** Pages, by kind, that the samples of a run take besides their prompt. */
export function samplePages(
  kinds: readonly KvKind[],
  { samples, maxTokens, longestDraft }: Pick<RunSize, 'samples' | 'maxTokens' | 'longestDraft'>,
  storage: Pick<KvStorage, 'pageTokens' | 'draftLimit'>,
): number[] {
  const ahead = roundsInFlight * (longestDraft + 1);
  return kinds.map((kind) => samples * pagesFor(kind, maxTokens + ahead, ahead, storage));
}

/** Bytes of KV that a run allocates, to the byte, in a cache that is empty before. */
export function kvBytes(layout: KvLayout, run: RunSize, storage: KvStorage): number {
  const kinds = kindsOf(layout);
  const prompt = promptPages(kinds, run, storage);
  const samples = samplePages(kinds, run, storage);
  return kinds.reduce((sum, { index, owners }) => {
    const pages = (prompt[index] ?? 0) + (samples[index] ?? 0);
    return sum + pages * owners.length * pageBytes(layout, storage);
  }, 0);
}

/** The largest integer from 1 to `most` that fits, where all below one that fits do too; 0 where none does. */
export function largestFitting(most: number, fits: (value: number) => boolean): number {
  let [low, high] = [0, most];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}
