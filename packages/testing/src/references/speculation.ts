import { philoxReference } from './sampling.ts';

/** What acceptance decides about, for one running sample; places are counted from the one after its pending token. */
export interface AcceptInput {
  /** Position of the pending token. */
  readonly position: number;
  /** Position at which the sample must have ended. */
  readonly end: number;
  /** By place; undefined where no strategy made one. One fewer than `draws`. */
  readonly guesses: readonly (number | undefined)[];
  /** What the target drew, by place, each as if all guesses before it were kept. */
  readonly draws: readonly number[];
  readonly stops: readonly number[];
  readonly vocab: number;
}

/** What came of a round for one sample. */
export interface Accepted {
  readonly tokens: readonly number[];
  /** How many of them are guesses. */
  readonly kept: number;
  /** After the last of them. */
  readonly status: 'running' | 'stop' | 'length' | 'invalid';
}

/**
 * The guesses that equal what was drawn in their place, up to the first that does not, and the draw there (BASS, arXiv
 * 2404.15778 §2); less where a stop token, the end or a guess that is no token comes before.
 */
export function acceptReference({ position, end, guesses, draws, stops, vocab }: AcceptInput): Accepted {
  const miss = guesses.findIndex((guess, place) => guess !== draws[place]);
  const equal = miss < 0 ? guesses.length : miss;
  const stop = draws.findIndex((token) => stops.includes(token));
  const taken = Math.min(equal + 1, end - 1 - position, stop < 0 ? Infinity : stop + 1);
  const last = taken - 1;
  let status: Accepted['status'] = position + taken === end - 1 ? 'length' : 'running';
  if (stop === last) status = 'stop';
  if ((guesses[last] ?? 0) >= vocab) status = 'invalid';
  return { tokens: draws.slice(0, taken), kept: Math.min(equal, taken), status };
}

/**
 * The token of rule `rejection` for a guess (Chen et al. 2023, algorithm 2): the guess with probability min(1, p / q),
 * else a draw from what p has above q. Its noise is that of draws with another counter: 1 for the coin, 2 for the draw.
 * @param p law of the target
 * @param q law that the guess was drawn from; 1 for a guess that was certain
 */
export function rejectionReference(
  { p, q, guess }: { p: readonly number[]; q: readonly number[]; guess: number },
  { seed, position }: { seed: number; position: number },
): number {
  const uniform = (token: number, use: number): number => {
    const key = [seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
    return ((philoxReference([token, position, use, 0], key)[0] ?? 0) + 0.5) / 2 ** 32;
  };
  if (uniform(0, 1) * (q[guess] ?? 0) < (p[guess] ?? 0)) return guess;
  const scores = p.map((value, token) => {
    const left = Math.max(0, value - (q[token] ?? 0));
    return Math.log(left) - Math.log(-Math.log1p(-uniform(token, 2)));
  });
  return scores.indexOf(Math.max(...scores));
}

/** What a lookup compares, and how many tokens it guesses at most. */
export interface LookupReferenceOptions {
  readonly longest: number;
  readonly shortest: number;
  readonly length: number;
}

/** Guesses that `text` (prompt and own tokens) goes on as it did after the same tokens before, over and over. */
export function promptLookupReference(text: readonly number[], options: LookupReferenceOptions): number[] {
  const found = longestRun(text, [text], 0, options);
  if (!found) return [];
  const period = text.slice(found.after);
  return Array.from({ length: options.length }, (_, i) => period[i % period.length]!);
}

/**
 * Guesses that `text` goes on as a sibling did: what another sample of the same prompt has said after the same tokens.
 * @param siblings prompt and own tokens of the other samples, in their order
 * @param prompt tokens of the prompt
 */
export function siblingLookupReference(
  text: readonly number[],
  siblings: readonly (readonly number[])[],
  prompt: number,
  options: LookupReferenceOptions,
): number[] {
  const found = longestRun(text, siblings, prompt, options);
  return found ? found.source.slice(found.after, found.after + options.length) : [];
}

/** The longest run that ends like `text`, with something after it from `from` on; of equals the last of the last source. */
function longestRun(
  text: readonly number[],
  sources: readonly (readonly number[])[],
  from: number,
  { longest, shortest }: LookupReferenceOptions,
): { source: readonly number[]; after: number } | undefined {
  let found: { source: readonly number[]; after: number; length: number } | undefined;
  for (const source of sources) {
    for (let after = Math.max(1, from); after < source.length; after++) {
      const same = (length: number) => source[after - length] === text[text.length - length];
      let length = 0;
      while (length < Math.min(longest, after, text.length) && same(length + 1)) length++;
      if (length >= Math.max(shortest, found?.length ?? 0)) found = { source, after, length };
    }
  }
  return found;
}
