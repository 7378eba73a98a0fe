/** Why a sample ended: a stop token or string, a limit of tokens, or because `timeBudgetMs` was over: it is unfinished. */
export type FinishReason = 'stop' | 'length' | 'time';

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

/** Milliseconds of decoding per token of a sample, from the begin of decoding to the sample's end (the PTL of BASS). */
export interface TokenLatency {
  /** Of the sample that finished first; undefined when none did. */
  readonly firstFinished: number | undefined;
  /** Of the sample that finished last. */
  readonly lastFinished: number | undefined;
  /** Mean over all samples; one that ran out of time counts up to then. */
  readonly mean: number;
}

/** What speculation did in a run. */
export interface SpeculationStats {
  /** Rounds with a draft; the other steps were plain. */
  readonly rounds: number;
  /** Mean draft length of these rounds. */
  readonly draftLength: number;
  /** Tokens that a running sample gained in such a round, on average. */
  readonly tokensPerRound: number;
  /** Share of the guesses compared with the target's draw that were right; those after a wrong one are not compared. */
  readonly acceptance: number;
  /** By strategy, in their order. */
  readonly strategies: readonly {
    readonly name: string;
    readonly accepted: number;
    readonly rejected: number;
    readonly acceptance: number;
  }[];
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
  readonly msPerToken: TokenLatency;
  /** Decode steps: rounds of speculation and plain steps. */
  readonly steps: number;
  /** Draft tokens that were right, and are among the generated ones. */
  readonly acceptedDraftTokens: number;
  /** Draft tokens computed in vain. */
  readonly rejectedDraftTokens: number;
  /** Undefined where the run made no drafts. */
  readonly speculation: SpeculationStats | undefined;
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
