import type { Sequence } from '@ensample/kv-cache';
import type { Stepper } from './stepper.ts';

/**
 * The KV of a session's tokens in one model, all but the last: that one is the first input of a run, so that prefill
 * needs no logits. It may lag behind the tokens, and is then extended when next used.
 */
export class Prefix {
  readonly stepper: Stepper;
  readonly #sequence: Sequence;
  /** Tokens from the start whose KV is all there: while more are computed, no more than before. */
  #complete: number;
  #gaps: readonly Gap[];

  constructor(stepper: Stepper, sequence: Sequence = stepper.cache.sequence(), gaps: readonly Gap[] = []) {
    this.stepper = stepper;
    this.#sequence = sequence;
    this.#complete = sequence.length;
    this.#gaps = gaps;
  }

  /** What samples fork off. */
  get sequence(): Sequence {
    return this.#sequence;
  }

  /** Tokens that {@link extend} would compute. */
  missing(tokens: readonly number[]): number {
    return Math.max(0, tokens.length - 1 - this.#sequence.length);
  }

  /**
   * Computes what is missing of all `tokens` but the last. After a failure the first `kept` of them are what counts:
   * the rest is dropped, and made again when next needed.
   * @param alsoPages pages to have free afterwards, by kind: pools that grow once have a single slab.
   */
  async extend(tokens: readonly number[], { kept, signal, alsoPages = [] }: ExtendOptions): Promise<void> {
    const { stepper } = this;
    const { cache } = stepper;
    const { length: after } = this.#sequence;
    const missing = tokens.slice(after, -1);
    if (missing.length === 0) return;
    const step = Math.min(stepper.prefillRows, missing.length);
    try {
      const pages = cache.kinds.map(
        (kind, k) => cache.pagesFor(kind, missing.length, step) + (alsoPages[k] ?? 0),
      );
      await stepper.ensurePages(`the KV of ${tokens.length} tokens`, pages);
      const until = await stepper.prefill(this.#sequence, missing, signal);
      if (until > after + 1) this.#gaps = [...this.#gaps, { after, until }];
    } catch (error) {
      this.#keep(this.#stored(kept));
      throw error;
    }
    this.#sequence.seal();
    this.#complete = this.#sequence.length;
  }

  /** Goes back to `tokens` tokens. @returns whether their KV was still there: else it is computed anew. */
  truncate(tokens: number): boolean {
    return this.#keep(this.#stored(tokens));
  }

  /** The same KV for another session of `tokens` tokens; nothing is copied. */
  fork(tokens: number): Prefix {
    const stored = this.#stored(tokens);
    return this.#isExact(stored)
      ? new Prefix(this.stepper, this.#sequence.fork(stored), this.#gapsBefore(stored))
      : new Prefix(this.stepper);
  }

  /** Whether all that a sequence of so many tokens needs is there. */
  #isExact(stored: number): boolean {
    const inGap = this.#gaps.some(({ after, until }) => stored > after && stored < until);
    return !inGap && this.#sequence.exactFrom(stored) === stored;
  }

  #gapsBefore(stored: number): readonly Gap[] {
    return this.#gaps.filter(({ after }) => after < stored);
  }

  /** Tokens of a session of that length whose KV is stored. */
  #stored(tokens: number): number {
    return Math.min(this.#complete, Math.max(0, tokens - 1));
  }

  #keep(stored: number): boolean {
    const exact = this.#isExact(stored);
    if (exact) this.#sequence.truncate(stored);
    else this.#sequence.release();
    this.#complete = this.#sequence.length;
    this.#gaps = this.#gapsBefore(this.#complete);
    return exact;
  }

  /** Gives the KV back, as far as nothing else uses it. */
  release(): void {
    this.#sequence.release();
    this.#complete = 0;
    this.#gaps = [];
  }
}

/**
 * Positions between these two cannot be gone back to: what tokens before the last windows need in higher layers was not computed. Where
 * a sequence has several segments, their pages are there nevertheless.
 */
interface Gap {
  readonly after: number;
  readonly until: number;
}

/** Options of {@link Prefix.extend}. */
export interface ExtendOptions {
  /** Tokens of the session should extending fail. */
  readonly kept: number;
  readonly signal?: AbortSignal | undefined;
  readonly alsoPages?: readonly number[];
}
