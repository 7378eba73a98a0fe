/** Why a sample ended: a stop token or string, or a limit of tokens. */
export type FinishReason = 'stop' | 'length';

/** One continuation. */
export interface Sample {
  /** Which draw it is: it used seed + index. */
  readonly index: number;
  /** Its text, without special tokens and stop strings. */
  readonly text: string;
  /** Its token ids, without the stop token. */
  readonly tokens: readonly number[];
  /** Log-probability of each token (with `logprobs`), the stop token's last. */
  readonly logprobs?: readonly number[];
  /** Mean log-probability of its tokens, the stop token included, under the model's own distribution. */
  readonly meanLogprob: number;
  readonly finishReason: FinishReason;
}

/** What a run did and took. */
export interface GenerateStats {
  readonly promptTokens: number;
  /** Tokens of all samples together, stop tokens included. */
  readonly generatedTokens: number;
  /** Seed of sample 0. */
  readonly seed: number;
  /** Milliseconds of prefill; 0 when the session had been prefilled before. */
  readonly prefillMs: number;
  /** Milliseconds from the first decode step to the last result. */
  readonly decodeMs: number;
  /** Generated tokens per second of decoding, all samples together. */
  readonly tokensPerSecond: number;
  /** Decode steps. */
  readonly steps: number;
  /** Bytes of KV pages in use when most samples were alive. */
  readonly kvBytes: number;
  /** Bytes of KV pages that the same samples would hold if each kept its own prompt. */
  readonly kvBytesUnshared: number;
  /** Bytes of KV that attention read per step, on average: segment bytes × tiles of rows that read them. */
  readonly kvReadBytesPerStep: number;
  /** The same if every sample read its whole context for itself. */
  readonly kvReadBytesPerStepUnshared: number;
}

/** Result of `generate`. */
export interface GenerateResult {
  readonly samples: readonly Sample[];
  readonly stats: GenerateStats;
}

/** Events of `stream`, in the order in which things happen; samples interleave. */
export type StreamEvent =
  | {
      readonly type: 'token';
      /** The sample it belongs to. */
      readonly index: number;
      readonly token: number;
      /** Text that this token completed; may be empty. */
      readonly text: string;
      readonly logprob: number;
    }
  | { readonly type: 'finish'; readonly index: number; readonly sample: Sample }
  | { readonly type: 'result'; readonly samples: readonly Sample[]; readonly stats: GenerateStats };
