import type { KvCache } from '@ensample/kv-cache';
import type { Counters, GuessCount } from './counters.ts';
import type { Start } from './generation.ts';
import type { ResolvedOptions } from './options.ts';
import type { GenerateStats, SpeculationStats, TokenLatency } from './result.ts';
import type { SampleText } from './sample-text.ts';
import type { Stepper } from './stepper.ts';

/** A run at its end. */
export interface FinishedRun {
  readonly start: Start;
  readonly options: ResolvedOptions;
  readonly counters: Counters;
  readonly texts: readonly SampleText[];
  /** `performance.now()` before the first decode step. */
  readonly began: number;
  /** Names of the engine's draft strategies, in order. */
  readonly strategies: readonly string[];
}

/** What a run did and took. */
export function statsOf(stepper: Stepper, run: FinishedRun): GenerateStats {
  const { start, options, counters, texts, began } = run;
  const decodeMs = performance.now() - began;
  const generatedTokens = texts.reduce((sum, { drawn }) => sum + drawn, 0);
  const steps = Math.max(1, counters.steps);
  const guesses = sum(counters.guesses);
  return {
    promptTokens: start.prompt.length,
    generatedTokens,
    acceptedDraftTokens: guesses.kept,
    rejectedDraftTokens: guesses.missed + guesses.unread,
    seed: options.seed,
    prefillMs: start.prefillMs,
    decodeMs,
    tokensPerSecond: (1000 * generatedTokens) / Math.max(decodeMs, 1e-3),
    msPerToken: latency(texts, began),
    steps: counters.steps,
    speculation: speculation(run),
    kvBytes: counters.kvBytes,
    kvBytesUnshared: unshared(
      stepper.cache,
      texts.map(({ drawn }) => start.prompt.length - 1 + drawn),
    ),
    kvReadBytesPerStep: counters.readBytes / steps,
    kvReadBytesPerStepUnshared: counters.readBytesUnshared / steps,
  };
}

function sum(counts: readonly GuessCount[]): GuessCount {
  const total = { kept: 0, missed: 0, unread: 0 };
  for (const count of counts) {
    total.kept += count.kept;
    total.missed += count.missed;
    total.unread += count.unread;
  }
  return total;
}

function latency(texts: readonly SampleText[], began: number): TokenLatency {
  const all = texts.map((text) => ({
    at: text.finishedAt,
    finished: text.finishReason !== 'time',
    msPerToken: (text.finishedAt - began) / Math.max(1, text.drawn),
  }));
  const finished = all.filter((sample) => sample.finished).sort((a, b) => a.at - b.at);
  return {
    firstFinished: finished[0]?.msPerToken,
    lastFinished: finished.at(-1)?.msPerToken,
    mean: all.reduce((total, { msPerToken }) => total + msPerToken, 0) / all.length,
  };
}

function speculation({ counters, strategies }: FinishedRun): SpeculationStats | undefined {
  if (counters.drafts === 0) return undefined;
  return {
    rounds: counters.drafts,
    draftLength: counters.draftLength / counters.drafts,
    tokensPerRound: counters.sampleTokens / Math.max(1, counters.sampleRounds),
    acceptance: acceptanceOf(sum(counters.guesses)),
    strategies: counters.guesses.map((count, i) => ({
      name: strategies[i] ?? '',
      accepted: count.kept,
      rejected: count.missed + count.unread,
      acceptance: acceptanceOf(count),
    })),
  };
}

function acceptanceOf({ kept, missed }: GuessCount): number {
  return kept / Math.max(1, kept + missed);
}

/** Bytes of pages that sequences of these lengths take when none is shared. */
function unshared(cache: KvCache, lengths: readonly number[]): number {
  const bytesOf = (length: number) =>
    cache.kinds.reduce((total, kind) => {
      const pool = cache.pools[kind.index];
      return total + cache.pagesFor(kind, length, 1) * (pool ? pool.pageBytes * pool.shape.owners : 0);
    }, 0);
  return lengths.reduce((total, length) => total + bytesOf(length), 0);
}
