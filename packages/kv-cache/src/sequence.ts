import { InvalidOptionError, invariant, OutOfMemoryError } from '@ensample/tensor';
import type { KvCache } from './cache.ts';
import { oldest, type Segment } from './segment.ts';

/**
 * A path through the segment tree, from a root to a leaf, and how much of the leaf it sees. Forks share the
 * whole path; who writes next on a shared leaf gets a segment of its own after it.
 */
export class Sequence {
  readonly cache: KvCache;
  #leaf: Segment | undefined;
  #length: number;

  /** @internal Use {@link KvCache.sequence} and {@link Sequence.fork}. */
  constructor(cache: KvCache, leaf: Segment | undefined, length: number) {
    this.cache = cache;
    this.#leaf = leaf;
    this.#length = length;
  }

  /** Tokens stored. */
  get length(): number {
    return this.#length;
  }

  /** The segment it ends in; undefined while nothing was reserved. */
  get leaf(): Segment | undefined {
    return this.#leaf;
  }

  /** Position up to which tokens may be written without another {@link reserve}. */
  get reservedEnd(): number {
    return this.#leaf && this.#writable(this.#leaf) ? this.#leaf.reservedEnd : this.#length;
  }

  #writable(leaf: Segment): boolean {
    return leaf.users === 1 && leaf.start + leaf.length === this.#length;
  }

  /**
   * Makes room for `tokens` more tokens. Where the leaf is shared, or its slab is full, they go into a new
   * segment after it. Pools grow where they must; {@link KvCache.ensure} grows them beforehand.
   * @returns whether page tables or the tree changed, so that a plan made before is out of date.
   * @throws OutOfMemoryError, having taken nothing, when a slab cannot hold that many tokens.
   */
  reserve(tokens: number): boolean {
    if (!Number.isInteger(tokens) || tokens < 0) {
      throw new InvalidOptionError(`reserve of ${tokens} tokens: it must be an integer from 0 on`);
    }
    const end = this.#length + tokens;
    const { cache } = this;
    if (this.#leaf && this.#writable(this.#leaf)) {
      if (end <= this.#leaf.reservedEnd) return false;
      if (cache.extend(this.#leaf, this.#length, end)) return true;
    }
    this.#append(tokens);
    return true;
  }

  #append(tokens: number): void {
    const { cache } = this;
    if (tokens > cache.maxReserve) {
      throw new OutOfMemoryError(
        `a slab of KV pages cannot hold ${tokens} more tokens: append at most ${cache.maxReserve} at a time`,
      );
    }
    const parent = this.#leaf;
    let child = this.#childFor(tokens);
    if (!child) {
      cache.ensure(cache.kinds.map((kind) => cache.pagesFor(kind, tokens, tokens)));
      child = this.#childFor(tokens);
    }
    invariant(child, () => `no slab has room for ${tokens} tokens after growing`);
    // The new child is a user of the old leaf in this sequence's place.
    if (parent) cache.release(parent);
    this.#leaf = child;
  }

  #childFor(tokens: number): Segment | undefined {
    const { cache } = this;
    const child = cache.createSegment(this.#leaf, this.#length);
    if (cache.extend(child, this.#length, this.#length + tokens)) return child;
    cache.release(child);
    return undefined;
  }

  /** Says that `tokens` tokens were written after those stored. They must have been reserved. */
  commit(tokens: number): void {
    if (tokens === 0) return;
    const leaf = this.#leaf;
    invariant(leaf && this.#writable(leaf), () => 'commit without reserve');
    invariant(
      tokens > 0 && this.#length + tokens <= leaf.reservedEnd,
      () => `commit of ${tokens} tokens: ${leaf.reservedEnd - this.#length} are reserved`,
    );
    this.#length += tokens;
    leaf.length += tokens;
  }

  /**
   * Another sequence with the same first `at` tokens (default: all). Nothing is copied.
   * @throws InvalidOptionError when a window no longer holds what that position needs; the message names the
   * earliest position that is exact.
   */
  fork(at: number = this.#length): Sequence {
    this.#check(at);
    let segment = this.#leaf;
    while (segment && at <= segment.start && segment.parent) segment = segment.parent;
    if (at === 0) segment = undefined;
    if (segment) segment.users++;
    return new Sequence(this.cache, segment, at);
  }

  /**
   * Forgets the tokens from `length` on: rejected drafts, or a user's edit. A plan made before is out of date.
   * @throws InvalidOptionError as {@link fork} does.
   */
  truncate(length: number): void {
    if (length === this.#length) return;
    const kept = this.fork(length);
    this.release();
    this.#leaf = kept.#leaf;
    this.#length = length;
    const leaf = this.#leaf;
    if (leaf?.users === 1) {
      leaf.length = length - leaf.start;
      this.cache.trim(leaf, this.cache.draftLimit);
    }
  }

  /**
   * Gives back what a shared prefix no longer needs: pages before its last window and those reserved but not
   * written. Call it when a prompt is complete: with windows, {@link truncate} then goes no further back than here.
   */
  seal(): void {
    const leaf = this.#leaf;
    if (leaf && this.#writable(leaf)) this.cache.trim(leaf, 0);
  }

  /**
   * The earliest position from `at` on that {@link fork} and {@link truncate} can go back to exactly; `at` itself
   * unless a sliding window has moved on.
   */
  exactFrom(at: number): number {
    const { kinds, pageTokens } = this.cache;
    let segment = this.#leaf;
    while (segment?.parent && at <= segment.start) segment = segment.parent;
    if (!segment || at === 0) return at;
    const { runs } = segment;
    const earliest = kinds.map(({ window }, k) => {
      const run = runs[k];
      return run && run.first > 0 && window !== undefined
        ? oldest(segment, run, pageTokens) + window - 1
        : at;
    });
    return Math.min(this.#length, Math.max(at, ...earliest));
  }

  #check(at: number): void {
    if (!Number.isInteger(at) || at < 0 || at > this.#length) {
      throw new InvalidOptionError(`position ${at} is not in a sequence of ${this.#length} tokens`);
    }
    const exact = this.exactFrom(at);
    if (exact > at) {
      throw new InvalidOptionError(
        `position ${at} cannot be restored exactly: a sliding window has moved on. ` +
          `The earliest exact position is ${exact}; to go further back, prefill again`,
      );
    }
  }

  /** Gives its pages back, as far as no other sequence shares them. The sequence is empty afterwards. */
  release(): void {
    if (this.#leaf) this.cache.release(this.#leaf);
    this.#leaf = undefined;
    this.#length = 0;
  }
}
