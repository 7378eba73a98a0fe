import { InvalidOptionError, invariant } from '@ensample/tensor';
import type { Sequence } from '@ensample/kv-cache';
import { DraftModel } from './draft-model.ts';
import { collect, generate, type Parts } from './generation.ts';
import type { Lock } from './lock.ts';
import { resolveOptions, stopIds, tokenId, type GenerateOptions } from './options.ts';
import { Prefix } from './prefix.ts';
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
  readonly #prefix: Prefix;
  /** The same tokens' KV in the draft model; filled when a run first drafts with it. */
  readonly #draft: Prefix | undefined;
  /** Time of prefill that no run has reported yet. */
  #prefillMs = 0;
  #disposed = false;
  /** Ends what is under way when the session is disposed of. */
  readonly #ending = new AbortController();

  /** @internal Use `engine.prefill`. */
  constructor(shared: Shared, tokens: readonly number[], prefix?: Prefix, draft?: Prefix) {
    const model = shared.drafting.strategies.find((strategy) => strategy instanceof DraftModel);
    this.#shared = shared;
    this.#prefix = prefix ?? new Prefix(shared.stepper);
    this.#draft = draft ?? (model && new Prefix(model.stepper));
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
  stream(options: GenerateOptions = {}): AsyncGenerator<StreamEvent, void> {
    return this.run(options, performance.now());
  }

  /** @internal With the time at which the call was made: `timeBudgetMs` counts from there. */
  async *run(options: GenerateOptions, began: number): AsyncGenerator<StreamEvent, void> {
    const { lock, stepper } = this.#shared;
    const { vocabSize, eosTokenIds } = stepper.model.config;
    this.#check();
    const resolved = resolveOptions(options, vocabSize);
    const deadline = began + resolved.timeBudgetMs;
    const stops = stopIds(resolved, eosTokenIds);
    resolved.signal?.throwIfAborted();
    const release = await lock.acquire();
    try {
      this.#check();
      await this.#extend([], resolved.signal);
      const prefillMs = this.#prefillMs;
      this.#prefillMs = 0;
      const start = { prefix: this.#prefix.sequence, prompt: this.#tokens, stops, prefillMs, deadline };
      const draftPrefix = (pages: readonly number[]) => this.#draftPrefix(pages, resolved.signal);
      yield* generate(this.#shared, { ...start, draftPrefix }, resolved);
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

  /** Adds tokens and prefills what is missing. After a failure the session is as before. */
  async #extend(
    added: readonly number[],
    signal?: AbortSignal,
    alsoPages?: readonly number[],
  ): Promise<void> {
    const all = [...this.#tokens, ...added];
    if (this.#prefix.missing(all) > 0) {
      const began = performance.now();
      const kept = this.#tokens.length;
      await this.#until(signal, (within) =>
        this.#prefix.extend(all, { kept, signal: within, ...(alsoPages ? { alsoPages } : {}) }),
      );
      this.#prefillMs += performance.now() - began;
    }
    this.#tokens.push(...added);
  }

  async #draftPrefix(alsoPages: readonly number[], signal?: AbortSignal): Promise<Sequence> {
    const draft = this.#draft;
    invariant(draft, () => 'a draft without a draft model');
    const kept = this.#tokens.length;
    await this.#until(signal, (within) => draft.extend(this.#tokens, { kept, signal: within, alsoPages }));
    return draft.sequence;
  }

  /** Work that ends by the caller's signal, or when the session is disposed of, and then says so. */
  async #until(signal: AbortSignal | undefined, work: (within: AbortSignal) => Promise<void>): Promise<void> {
    const ending = this.#ending.signal;
    try {
      await work(signal ? AbortSignal.any([signal, ending]) : ending);
    } finally {
      this.#check();
    }
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
      this.#draft?.truncate(length);
      if (this.#prefix.truncate(length)) return 0;
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
    const stored = this.#tokens.length;
    return Array.from({ length: count }, () => {
      return new Session(this.#shared, this.#tokens, this.#prefix.fork(stored), this.#draft?.fork(stored));
    });
  }

  /** @internal With `alsoPages`, a run that follows finds its pages in the same slab. */
  static async start(
    shared: Shared,
    tokens: readonly number[],
    signal?: AbortSignal,
    alsoPages?: readonly number[],
  ): Promise<Session> {
    const session = new Session(shared, []);
    try {
      await session.#grow(tokens, signal, alsoPages);
      return session;
    } catch (error) {
      session.dispose();
      throw error;
    }
  }

  #check(): void {
    this.#shared.check();
    if (this.#disposed)
      throw new InvalidOptionError('this session was disposed of: make a new one with engine.prefill');
  }

  /** Gives its KV back, as far as no fork uses it. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#shared.sessions.delete(this);
    this.#ending.abort();
    this.#prefix.release();
    this.#draft?.release();
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
