import type { Sequence } from '@ensample/kv-cache';
import { InvalidOptionError } from '@ensample/tensor';
import { collect, generate, type Parts } from './generation.ts';
import type { Lock } from './lock.ts';
import { resolveOptions, stopIds, tokenId, type GenerateOptions } from './options.ts';
import type { GenerateResult, StreamEvent } from './result.ts';

/** @internal What sessions of one engine share. */
export interface Shared extends Parts {
  readonly lock: Lock;
  readonly sessions: Set<Session>;
}

/**
 * A prefilled text that can be continued, extended and forked; its KV stays on the device until `dispose`.
 * Runs of one engine take turns: calls made meanwhile wait.
 */
export class Session {
  readonly #shared: Shared;
  readonly #tokens: number[];
  readonly #prefix: Sequence;
  /** Time of prefill that no run has reported yet. */
  #prefillMs = 0;
  #disposed = false;

  /** @internal Use `engine.prefill`. */
  constructor(shared: Shared, prefix: Sequence, tokens: readonly number[]) {
    this.#shared = shared;
    this.#prefix = prefix;
    this.#tokens = [...tokens];
    shared.sessions.add(this);
  }

  /** Token ids so far. */
  get tokens(): readonly number[] {
    return this.#tokens;
  }

  /**
   * Draws samples that continue this session; the session itself stays as it is.
   * @throws InvalidOptionError, OutOfMemoryError, DeviceLostError; the signal's reason when aborted.
   */
  async generate(options: GenerateOptions = {}): Promise<GenerateResult> {
    return collect(this.stream(options));
  }

  /** The same as events, sample by sample as tokens come. Leaving the loop early ends the run. */
  async *stream(options: GenerateOptions = {}): AsyncGenerator<StreamEvent, void> {
    const { lock, stepper } = this.#shared;
    const { vocabSize, eosTokenIds } = stepper.model.config;
    this.#check();
    const resolved = resolveOptions(options, vocabSize);
    const stops = stopIds(resolved, eosTokenIds);
    resolved.signal?.throwIfAborted();
    const release = await lock.acquire();
    try {
      this.#check();
      await this.#extend([], resolved.signal);
      const start = { prefix: this.#prefix, prompt: this.#tokens, stops, prefillMs: this.#prefillMs };
      this.#prefillMs = 0;
      yield* generate(this.#shared, start, resolved);
    } finally {
      release();
    }
  }

  /**
   * Adds to the end: text (encoded as it is, without the model's frame) or token ids.
   * @throws InvalidOptionError when the context is full.
   */
  async append(addition: string | readonly number[], signal?: AbortSignal): Promise<void> {
    const { tokenizer, stepper } = this.#shared;
    this.#check();
    const added = typeof addition === 'string' ? tokenizer.encode(addition) : [...addition];
    for (const id of added) tokenId('append', id, stepper.model.config.vocabSize);
    await this.#grow(added, signal);
  }

  async #grow(added: readonly number[], signal?: AbortSignal, alsoPages?: readonly number[]): Promise<void> {
    const { lock, stepper } = this.#shared;
    const release = await lock.acquire();
    try {
      this.#check();
      checkLength(this.#tokens.length + added.length, stepper.model.config.contextLength);
      await this.#extend(added, signal, alsoPages);
    } finally {
      release();
    }
  }

  /**
   * Prefills up to the last token, which waits for the first step of a run: prefill needs no logits. After a failure
   * the session is as before: what does not belong to its tokens is dropped, and made again when next needed.
   * @param alsoPages pages to have free afterwards, by kind: pools that grow once have a single slab.
   */
  async #extend(
    added: readonly number[],
    signal?: AbortSignal,
    alsoPages: readonly number[] = [],
  ): Promise<void> {
    const { stepper } = this.#shared;
    const { cache } = stepper;
    const prefix = this.#prefix;
    const all = [...this.#tokens, ...added];
    const missing = all.slice(prefix.length, -1);
    if (missing.length > 0) {
      const began = performance.now();
      const step = Math.min(stepper.prefillRows, missing.length);
      try {
        const pages = cache.kinds.map(
          (kind, k) => cache.pagesFor(kind, missing.length, step) + (alsoPages[k] ?? 0),
        );
        await stepper.ensurePages(`the KV of ${all.length} tokens`, pages);
        await stepper.prefill(prefix, missing, signal);
      } catch (error) {
        const kept = this.#stored();
        if (prefix.exactFrom(kept) === kept) prefix.truncate(kept);
        else prefix.release();
        throw error;
      }
      prefix.seal();
      this.#prefillMs += performance.now() - began;
    }
    this.#tokens.push(...added);
  }

  /**
   * Goes back to the first `length` tokens. Where a sliding window no longer holds what that takes, the kept tokens
   * are prefilled again.
   * @returns the number of tokens that were prefilled again: 0 where the KV was still there.
   */
  async truncate(length: number): Promise<number> {
    this.#check();
    if (!Number.isInteger(length) || length < 1 || length > this.#tokens.length) {
      throw new InvalidOptionError(
        `length is ${length}: it must be an integer from 1 to ${this.#tokens.length}`,
      );
    }
    const release = await this.#shared.lock.acquire();
    try {
      this.#check();
      this.#tokens.length = length;
      const stored = this.#stored();
      if (this.#prefix.exactFrom(stored) === stored) {
        this.#prefix.truncate(stored);
        return 0;
      }
      this.#prefix.release();
      await this.#extend([]);
      return length - 1;
    } finally {
      release();
    }
  }

  /** Sessions with the same tokens and the same KV; nothing is copied. @param count from 1. */
  fork(count: number): Session[] {
    this.#check();
    if (!Number.isInteger(count) || count < 1) {
      throw new InvalidOptionError(`fork count is ${count}: it must be an integer from 1`);
    }
    // An append that is under way may have stored more than the tokens there are.
    const kept = this.#stored();
    const exact = this.#prefix.exactFrom(kept) === kept;
    return Array.from({ length: count }, () => {
      const prefix = exact ? this.#prefix.fork(kept) : this.#shared.stepper.cache.sequence();
      return new Session(this.#shared, prefix, this.#tokens);
    });
  }

  /** Tokens whose KV is stored: all but the last, unless an earlier failure dropped some. */
  #stored(): number {
    return Math.min(this.#prefix.length, Math.max(0, this.#tokens.length - 1));
  }

  /** @internal With `alsoPages`, a run that follows finds its pages in the same slab. */
  static async start(
    shared: Shared,
    tokens: readonly number[],
    signal?: AbortSignal,
    alsoPages?: readonly number[],
  ): Promise<Session> {
    const session = new Session(shared, shared.stepper.cache.sequence(), []);
    try {
      await session.#grow(tokens, signal, alsoPages);
      return session;
    } catch (error) {
      session.dispose();
      throw error;
    }
  }

  #check(): void {
    if (this.#disposed)
      throw new InvalidOptionError('this session was disposed of: make a new one with engine.prefill');
    this.#shared.check();
  }

  /** Gives its KV back, as far as no fork uses it. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#shared.sessions.delete(this);
    this.#prefix.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * At least one token must fit after the prompt.
 * @throws InvalidOptionError
 */
export function checkLength(tokens: number, contextLength: number): void {
  if (tokens < 1) throw new InvalidOptionError('the prompt is empty: give at least one token');
  if (tokens >= contextLength) {
    throw new InvalidOptionError(
      `the prompt has ${tokens} tokens, and this model's context holds ${contextLength} of prompt and output together: ` +
        `shorten the prompt to at most ${contextLength - 1}`,
    );
  }
}
