import { status } from '@ensample/spec-decode';
import type { TextStream } from './model.ts';
import type { FinishReason, Sample } from './result.ts';

/**
 * The text of one sample as its tokens come. Text that may be the beginning of a stop string is held back, so that
 * what was given out never has to be taken back.
 */
export class SampleText {
  readonly index: number;
  readonly #decoder: TextStream;
  readonly #stops: readonly string[];
  readonly #tokens: number[] = [];
  readonly #logprobs: number[] = [];
  #text = '';
  #held = '';
  #finish: FinishReason | undefined;
  #finishedAt = 0;

  constructor(index: number, decoder: TextStream, stops: readonly string[]) {
    this.index = index;
    this.#decoder = decoder;
    this.#stops = stops;
  }

  /** Why it ended; undefined while it goes on. */
  get finishReason(): FinishReason | undefined {
    return this.#finish;
  }

  /** `performance.now()` when it ended. */
  get finishedAt(): number {
    return this.#finishedAt;
  }

  /** Tokens drawn, the stop token included. */
  get drawn(): number {
    return this.#logprobs.length;
  }

  /**
   * Takes the next token.
   * @param rowStatus what the step said of the row: see `status` of `@ensample/spec-decode`.
   * @returns text that is certain now.
   */
  push(token: number, logprob: number, rowStatus: number): string {
    this.#logprobs.push(logprob);
    if (rowStatus === status.stop) return this.#end('stop', this.#held + this.#decoder.flush());
    this.#tokens.push(token);
    this.#held += this.#decoder.push(token);
    const cut = firstStop(this.#held, this.#stops);
    if (cut >= 0) return this.#end('stop', this.#held.slice(0, cut));
    if (rowStatus === status.length) return this.#end('length', this.#held + this.#decoder.flush());
    return this.#release(this.#held.length - longestBeginning(this.#held, this.#stops));
  }

  /** Ends it as it is, because the time is up. @returns text that was held back. */
  expire(): string {
    return this.#end('time', this.#held + this.#decoder.flush());
  }

  #release(length: number): string {
    const text = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    this.#text += text;
    return text;
  }

  #end(reason: FinishReason, rest: string): string {
    this.#held = '';
    this.#text += rest;
    this.#finish = reason;
    this.#finishedAt = performance.now();
    return rest;
  }

  /** The finished sample. */
  result(withLogprobs: boolean): Sample {
    const total = this.#logprobs.reduce((sum, value) => sum + value, 0);
    return {
      index: this.index,
      text: this.#text,
      tokens: this.#tokens,
      ...(withLogprobs ? { logprobs: this.#logprobs } : {}),
      meanLogprob: total / Math.max(1, this.#logprobs.length),
      finishReason: this.#finish ?? 'length',
    };
  }
}

/** Index of the first stop string, or −1. */
function firstStop(text: string, stops: readonly string[]): number {
  const found = stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
  return found.length > 0 ? Math.min(...found) : -1;
}

/** Length of the longest end of `text` that a stop string begins with. */
function longestBeginning(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length;
    }
  }
  return longest;
}
