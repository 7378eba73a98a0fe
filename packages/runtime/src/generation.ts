import { largestFitting, longestDraft, roundsInFlight, samplePages, type Sequence } from '@ensample/kv-cache';
import { status } from '@ensample/spec-decode';
import { OutOfMemoryError } from '@ensample/tensor';
import { Decode, type SampleResult } from './decode.ts';
import { DraftModel } from './draft-model.ts';
import { DraftRun } from './draft-run.ts';
import { controllersOf, type Drafting } from './drafting.ts';
import type { Tokenizer } from './model.ts';
import type { ResolvedOptions } from './options.ts';
import type { GenerateResult, Sample, StreamEvent } from './result.ts';
import { adjusts, type RunState } from './run-state.ts';
import { SampleText } from './sample-text.ts';
import type { Sampler } from './sampler.ts';
import { statsOf } from './stats.ts';
import type { Stepper } from './stepper.ts';

/** What a run starts from. */
export interface Start {
  /** Holds the KV of all prompt tokens but the last. */
  readonly prefix: Sequence;
  /** The same for the draft model, with room for its samples' pages; computed when first asked for. */
  draftPrefix(pages: readonly number[]): Promise<Sequence>;
  readonly prompt: readonly number[];
  readonly stops: readonly number[];
  /** Milliseconds that prefill took for this run. */
  readonly prefillMs: number;
  /** `performance.now()` at which the time budget is over. */
  readonly deadline: number;
}

/** The parts of an engine that a run uses. */
export interface Parts {
  readonly stepper: Stepper;
  readonly sampler: Sampler;
  readonly state: RunState;
  readonly drafting: Drafting;
  readonly tokenizer: Tokenizer;
  /** Most bytes that the engine's device may hold; Infinity where there is no limit. */
  readonly memoryBytes: number;
  /** Throws when the engine was disposed of or its device lost. */
  check(): void;
}

/** Sizes of a run. */
interface Extent {
  readonly samples: number;
  /** Tokens that the longest sample may have. */
  readonly maxTokens: number;
  /** Longest draft of a round. */
  readonly longestDraft: number;
}

function extentOf({ stepper, drafting }: Parts, promptTokens: number, options: ResolvedOptions): Extent {
  const { contextLength, vocabSize } = stepper.model.config;
  const { samples, draftLength } = options;
  const most = longestDraft(samples, vocabSize);
  const wanted = typeof draftLength === 'number' ? draftLength : most;
  return {
    samples,
    maxTokens: Math.min(options.maxTokens, contextLength - promptTokens),
    longestDraft: drafting.strategies.length > 0 ? Math.min(most, wanted) : 0,
  };
}

/** Pages, by kind, that the samples of a run take besides their prompt. */
export function leafPages(parts: Parts, promptTokens: number, options: ResolvedOptions): number[] {
  const { cache } = parts.stepper;
  return samplePages(cache.kinds, extentOf(parts, promptTokens, options), cache);
}

/**
 * Refuses a run that would take more than the engine may, before anything is taken.
 * @param promptPages pages, by kind, that the prompt still needs.
 * @throws OutOfMemoryError that says what would fit.
 */
export function checkFits(
  parts: Parts,
  promptTokens: number,
  options: ResolvedOptions,
  promptPages: readonly number[] = [],
): void {
  const { cache, device } = parts.stepper;
  const left = parts.memoryBytes - device.memory.bytes;
  const growth = (changed: Partial<ResolvedOptions>) =>
    cache.growth(
      leafPages(parts, promptTokens, { ...options, ...changed }).map(
        (pages, k) => pages + (promptPages[k] ?? 0),
      ),
    );
  const wanted = growth({});
  if (wanted <= Math.max(0, left)) return;
  const samples = largestFitting(options.samples, (value) => growth({ samples: value }) <= left);
  const maxTokens = largestFitting(options.maxTokens, (value) => growth({ maxTokens: value }) <= left);
  const instead = [samples > 0 ? `${samples} samples` : '', maxTokens > 0 ? `${maxTokens} tokens each` : ''];
  throw new OutOfMemoryError(
    `${options.samples} samples of ${options.maxTokens} tokens would take ${wanted} bytes of KV, and ${left} of the engine's ` +
      `memoryBytes (${parts.memoryBytes}) are left: ` +
      (instead.join('') === ''
        ? 'not even a token would fit'
        : `${instead.filter(Boolean).join(', or ')}, would fit`),
  );
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
  const { stepper, tokenizer } = parts;
  const decode = await prepare(parts, start, options);
  const texts = Array.from(
    { length: options.samples },
    (_, i) => new SampleText(i, tokenizer.stream(), options.stop),
  );
  try {
    const began = performance.now();
    decode.begin(start.prefix);
    while (decode.running > 0 && performance.now() < start.deadline) {
      options.signal?.throwIfAborted();
      parts.check();
      while (decode.mayRunAhead) await decode.submit();
      for (const result of await decode.read()) {
        // A round may have tokens after the one that completed a stop string.
        if (texts[result.index]?.finishReason === undefined) yield* take(decode, texts, result, options);
      }
    }
    for (const text of texts) if (text.finishReason === undefined) yield* expire(text, options);
    const samples = rank(
      texts.map((text) => text.result(options.logprobs)),
      options,
    );
    const strategies = parts.drafting.strategies.map(({ name }) => name);
    const run = { start, options, counters: decode.counters, texts, began, strategies };
    yield { type: 'result', samples, stats: statsOf(stepper, run) };
  } finally {
    await decode.end();
  }
}

/** Makes room for a run, and writes down how it is sampled. */
async function prepare(parts: Parts, start: Start, options: ResolvedOptions): Promise<Decode> {
  const { stepper, sampler, state, drafting } = parts;
  const { prompt, stops } = start;
  const { samples } = options;
  const { maxTokens, longestDraft: limit } = extentOf(parts, prompt.length, options);
  const { contextLength, vocabSize } = stepper.model.config;
  const room = { longest: longestDraft(samples, vocabSize), contextLeft: contextLength - prompt.length };
  const lengths = controllersOf(drafting, options, room, roundsInFlight);
  checkFits(parts, prompt.length, options);
  await stepper.ensurePages(
    `the KV of ${samples} samples of ${maxTokens} tokens`,
    leafPages(parts, prompt.length, options),
  );
  state.begin(options, { prompt, stops, end: prompt.length + maxTokens });
  const rule = options.acceptance;
  const adjusting = adjusts(options);
  const prefix = (pages: readonly number[]) => start.draftPrefix(pages);
  const ownTokens = maxTokens + roundsInFlight * (limit + 1);
  const run = { state, adjusting, rule, samples, prefix, ownTokens, limit };
  const strategies = drafting.strategies.map((strategy) =>
    strategy instanceof DraftModel ? new DraftRun(strategy, run) : strategy,
  );
  const draft = strategies.find((strategy) => strategy instanceof DraftRun);
  const shape = { samples, adjusting, maxTokens, limit };
  return new Decode({ stepper, sampler, state, ...shape, rule, lengths, strategies, draft });
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

function* expire(text: SampleText, options: ResolvedOptions): Generator<StreamEvent> {
  text.expire();
  yield { type: 'finish', index: text.index, sample: text.result(options.logprobs) };
}

/** Best first where asked for; samples that ran out of time come last. */
function rank(samples: readonly Sample[], { rank: order, returned }: ResolvedOptions): Sample[] {
  const late = ({ finishReason, tokens }: Sample) =>
    finishReason === 'time' ? (tokens.length > 0 ? 1 : 2) : 0;
  const ordered =
    order === 'none'
      ? [...samples]
      : [...samples].sort((a, b) => late(a) - late(b) || b.meanLogprob - a.meanLogprob);
  return ordered.slice(0, returned);
}

/** The result at the end of a run's events. */
export async function collect(events: AsyncIterable<StreamEvent>): Promise<GenerateResult> {
  for await (const event of events) {
    if (event.type === 'result') return { samples: event.samples, stats: event.stats };
  }
  throw new Error('Ensample internal error: a run ended without a result');
}
