import type { KvCache, Sequence } from '@ensample/kv-cache';
import { status } from '@ensample/tensor';
import { Decode, type SampleResult } from './decode.ts';
import type { Tokenizer } from './model.ts';
import type { ResolvedOptions } from './options.ts';
import type { GenerateResult, GenerateStats, Sample, StreamEvent } from './result.ts';
import { SampleText } from './sample-text.ts';
import type { Sampler } from './sampler.ts';
import type { Stepper } from './stepper.ts';

/** What a run starts from. */
export interface Start {
  /** Holds the KV of all prompt tokens but the last. */
  readonly prefix: Sequence;
  readonly prompt: readonly number[];
  readonly stops: readonly number[];
  /** Milliseconds that prefill took for this run. */
  readonly prefillMs: number;
}

/** Pages, by kind, that the samples of a run take besides their prompt. */
export function leafPages(
  { cache, model }: Stepper,
  promptTokens: number,
  { samples, maxTokens }: ResolvedOptions,
): number[] {
  const tokens = Math.min(maxTokens, model.config.contextLength - promptTokens);
  return cache.kinds.map((kind) => samples * cache.pagesFor(kind, tokens + 1, 2));
}

/** The parts of an engine that a run uses. */
export interface Parts {
  readonly stepper: Stepper;
  readonly sampler: Sampler;
  readonly tokenizer: Tokenizer;
  /** Throws when the engine was disposed of or its device lost. */
  check(): void;
}

/**
 * One run: decodes all samples, assembles their text, yields events as they come. The last event is the result.
 * Pages and buffers of the run are given back however it ends.
 */
export async function* generate(
  parts: Parts,
  start: Start,
  options: ResolvedOptions,
): AsyncGenerator<StreamEvent, void> {
  const { stepper, sampler, tokenizer } = parts;
  const maxSteps = Math.min(options.maxTokens, stepper.model.config.contextLength - start.prompt.length);
  const what = `the KV of ${options.samples} samples of ${maxSteps} tokens`;
  await stepper.ensurePages(what, leafPages(stepper, start.prompt.length, options));
  stepper.ensureRows(options.samples);
  sampler.begin(options, start.stops, start.prompt, start.prompt.length + maxSteps);
  const texts = Array.from(
    { length: options.samples },
    (_, i) => new SampleText(i, tokenizer.stream(), options.stop),
  );
  const decode = new Decode(stepper, sampler, options, maxSteps);
  try {
    const began = performance.now();
    decode.begin(start.prefix, start.prompt.at(-1) ?? 0);
    while (decode.running > 0) {
      options.signal?.throwIfAborted();
      parts.check();
      while (decode.mayRunAhead) await decode.submit();
      for (const result of await decode.read()) yield* take(decode, texts, result, options);
    }
    const samples = rank(
      texts.map((text) => text.result(options.logprobs)),
      options,
    );
    yield {
      type: 'result',
      samples,
      stats: stats(parts, start, options, decode, texts, performance.now() - began),
    };
  } finally {
    await decode.end();
  }
}

function* take(
  decode: Decode,
  texts: SampleText[],
  result: SampleResult,
  options: ResolvedOptions,
): Generator<StreamEvent> {
  const { index, token, logprob } = result;
  const text = texts[index];
  if (!text) return;
  const piece = text.push(token, logprob, result.status);
  yield { type: 'token', index, token, text: piece, logprob };
  if (text.finishReason === undefined) return;
  decode.stop(index, result.status === status.running);
  yield { type: 'finish', index, sample: text.result(options.logprobs) };
}

function rank(samples: readonly Sample[], { rank: order, returned }: ResolvedOptions): Sample[] {
  const ordered =
    order === 'none' ? [...samples] : [...samples].sort((a, b) => b.meanLogprob - a.meanLogprob);
  return ordered.slice(0, returned);
}

function stats(
  { stepper }: Parts,
  start: Start,
  options: ResolvedOptions,
  { counters }: Decode,
  texts: readonly SampleText[],
  decodeMs: number,
): GenerateStats {
  const generatedTokens = texts.reduce((sum, { drawn }) => sum + drawn, 0);
  const steps = Math.max(1, counters.steps);
  return {
    promptTokens: start.prompt.length,
    generatedTokens,
    seed: options.seed,
    prefillMs: start.prefillMs,
    decodeMs,
    tokensPerSecond: (1000 * generatedTokens) / Math.max(decodeMs, 1e-3),
    steps: counters.steps,
    kvBytes: counters.kvBytes,
    kvBytesUnshared: unshared(
      stepper.cache,
      texts.map(({ drawn }) => start.prompt.length - 1 + drawn),
    ),
    kvReadBytesPerStep: counters.readBytes / steps,
    kvReadBytesPerStepUnshared: counters.readBytesUnshared / steps,
  };
}

/** Bytes of pages that sequences of these lengths take when none is shared. */
function unshared(cache: KvCache, lengths: readonly number[]): number {
  const bytesOf = (length: number) =>
    cache.kinds.reduce((sum, kind) => {
      const pool = cache.pools[kind.index];
      return sum + cache.pagesFor(kind, length, 1) * (pool ? pool.pageBytes * pool.shape.owners : 0);
    }, 0);
  return lengths.reduce((sum, length) => sum + bytesOf(length), 0);
}

/** The result at the end of a run's events. */
export async function collect(events: AsyncIterable<StreamEvent>): Promise<GenerateResult> {
  for await (const event of events) {
    if (event.type === 'result') return { samples: event.samples, stats: event.stats };
  }
  throw new Error('Ensample internal error: a run ended without a result');
}
