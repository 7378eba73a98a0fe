import type { KvCache } from '@ensample/kv-cache';
import type { Decoder } from '@ensample/mixattn-model';
import { stateWords, type Device } from '@ensample/tensor';
import { DecoderRun, type Random, type TinyModelOptions } from '@ensample/testing';
import { expect } from 'vitest';
import {
  createEngine,
  type Draft,
  type Engine,
  type GenerateOptions,
  type GenerateResult,
  type Session,
} from '../src/index.ts';
import { imposed } from './imposed.ts';
import { ImposedRule, keeps, type JudgedGuess } from './imposed-rule.ts';
import { loadDecoder, tinySource } from './tiny-engine.ts';

/** Models and pages of a {@link Torture}. */
export interface TortureOptions {
  readonly target: TinyModelOptions;
  readonly draft: TinyModelOptions;
  /** They guess before the draft model. */
  readonly lookups?: readonly Draft[];
  readonly pageTokens: number;
}

/** A run of it. */
export interface TortureRun {
  readonly seed: number;
  readonly n: number;
  readonly maxTokens: number;
  /** A list: round k drafts as its entry k mod length says. The first round must draft. */
  readonly draftLength: number | 'bass' | readonly number[];
  readonly stopTokenIds?: readonly number[];
}

/** Draft lengths of all kinds: fixed, by Algorithm 1 of BASS, in turn with plain rounds, few or as many as can be. */
const draftLengths: readonly TortureRun['draftLength'][] = [
  ...(['bass', 1, 5, 16, 32] as const),
  ...[
    [3, 0],
    [1, 5, 0, 0, 16, 2, 0, 32],
    [4, ...new Array<number>(30).fill(0)],
    [2, ...new Array<number>(31).fill(0)],
  ],
];

/** Any run of up to `n` samples, for a session of `prompt` tokens; half of them with stop tokens. */
export function randomRun(random: Random, n: number, prompt: number): TortureRun {
  return {
    seed: 1000 * random.integer(1e6),
    n: 1 + random.integer(n),
    maxTokens: 1 + random.integer(contextLength - prompt),
    draftLength: draftLengths[random.integer(draftLengths.length)]!,
    stopTokenIds: random.integer(2) ? [random.integer(96), random.integer(96)] : [],
  };
}

/** What a run did. */
export interface TortureReport {
  readonly rounds: number;
  readonly kept: number;
  readonly missed: number;
  /** Largest deviation of a log-probability. */
  readonly worst: number;
}

interface Text {
  readonly tokens: number[];
  readonly logprobs: number[];
}

/** Log-probabilities may be off by this from those of a fresh cache; one wrong key or position costs much more. */
const tolerated = 2e-5;
/** A greedy draft may take a token whose logit is less than this below the largest. */
const tie = 1e-3;
/** Longest text, prompt included. */
export const contextLength = 192;
/** Most samples of a run. */
export const mostSamples = 16;

/**
 * An engine whose guesses are kept or not as {@link keeps} says, whatever the models say, and fresh caches to compare
 * what comes of it with. The draft model is greedy, so that its guesses can be told too.
 */
export class Torture {
  readonly engine: Engine;
  readonly #device: Device;
  readonly #rule: ImposedRule;
  readonly #caches: readonly KvCache[];
  readonly #target: Decoder;
  readonly #draft: Decoder;
  /** The draft model's place among the strategies, from 1. */
  readonly #origin: number;
  readonly #drafted = new WeakSet<Session>();

  /** @internal Use {@link Torture.start}. */
  constructor(device: Device, engine: Engine, models: { target: Decoder; draft: Decoder; origin: number }) {
    this.engine = engine;
    this.#device = device;
    this.#rule = new ImposedRule(device, mostSamples, contextLength);
    this.#caches = imposed.caches.splice(0);
    this.#target = models.target;
    this.#draft = models.draft;
    this.#origin = models.origin;
  }

  static async start(device: Device, options: TortureOptions): Promise<Torture> {
    const { lookups = [], pageTokens } = options;
    const target = tinySource({ contextLength, ...options.target });
    const draft = tinySource({ contextLength, ...options.draft });
    imposed.caches.length = 0;
    imposed.pageTokens = pageTokens;
    const engine = await createEngine({ model: target, draft: [...lookups, draft], device, kvType: 'f32' });
    const models = { target: await loadDecoder(device, target), draft: await loadDecoder(device, draft) };
    return new Torture(device, engine, { ...models, origin: lookups.length + 1 });
  }

  /** Bytes of pages in use: of the draft model, of the target. */
  get used(): number[] {
    return this.#caches.map((cache) => cache.memory.used);
  }

  /** Runs, and checks everything that the run left behind. */
  async run(session: Session, run: TortureRun): Promise<TortureReport> {
    const before = this.used;
    const { texts, result } = await this.#draw(session, run);
    // The first run that drafts leaves the prompt in the draft model's cache.
    const kept = this.#drafted.has(session) ? 0 : 1;
    this.#drafted.add(session);
    expect(this.used.slice(kept)).toEqual(before.slice(kept));
    checkEnds(texts, result, run);
    await this.#checkStates(texts, session.tokens.length);
    const judged = await this.#rule.judged(
      texts.map(({ tokens }) => tokens),
      session.tokens.length,
    );
    checkKept(judged, result, run);
    await this.#checkDraft(judged, texts, session.tokens);
    const worst = await this.#checkLogprobs(texts, session.tokens);
    const right = judged.filter(({ token, guess }) => token === guess).length;
    return { rounds: result.stats.steps, kept: right, missed: judged.length - right, worst };
  }

  async #draw(session: Session, run: TortureRun): Promise<{ texts: Text[]; result: GenerateResult }> {
    this.#rule.clear();
    const texts = Array.from({ length: run.n }, (): Text => ({ tokens: [], logprobs: [] }));
    for await (const event of session.stream(this.#options(run))) {
      if (event.type === 'result') return { texts, result: event };
      if (event.type !== 'token') continue;
      texts[event.index]!.tokens.push(event.token);
      texts[event.index]!.logprobs.push(event.logprob);
    }
    throw new Error('a run without a result');
  }

  /** Leaves a run after so many tokens: its pages must be back. */
  async leave(session: Session, run: TortureRun, tokens: number): Promise<void> {
    const before = this.engine.kvMemory.used;
    let left = tokens;
    for await (const { type } of session.stream(this.#options(run)))
      if (type === 'token' && --left <= 0) break;
    expect(this.engine.kvMemory.used).toBe(before);
  }

  /** Bytes of pages in use, as {@link used}, whenever a token of a run comes. */
  async usedOver(session: Session, run: TortureRun): Promise<number[][]> {
    const used: number[][] = [];
    for await (const { type } of session.stream(this.#options(run)))
      if (type === 'token') used.push(this.used);
    return used;
  }

  #options({ draftLength, ...options }: TortureRun): GenerateOptions {
    const listed = typeof draftLength === 'object';
    if (listed) imposed.lengths = [...draftLength];
    const drawing = { temperature: 1.5, topP: 1, draftTemperature: 0, ignoreEos: true, ...options };
    return { ...drawing, acceptance: this.#rule, draftLength: listed ? 'auto' : draftLength };
  }

  /** Positions on the device are those of the tokens that were given out. */
  async #checkStates(texts: readonly Text[], start: number): Promise<void> {
    const states = await this.#rule.states();
    texts.forEach(({ tokens }, i) => {
      const [position = 0, finished = 0, , stored = 0] = states.subarray(stateWords * i);
      expect([position, finished]).toEqual([start - 1 + tokens.length, 1]);
      expect(stored).toBeLessThanOrEqual(position);
    });
  }

  /** The draft model's guesses are those that it makes with a fresh cache. */
  async #checkDraft(
    judged: readonly JudgedGuess[],
    texts: readonly Text[],
    prompt: readonly number[],
  ): Promise<void> {
    const logits = await freshLogits(this.#device, this.#draft, prompt, texts);
    const wrong = judged.filter(({ sample, position, guess, origin }) => {
      const row = logits[sample]![position - prompt.length]!;
      return origin === this.#origin && !(row[guess]! >= Math.max(...row) - tie);
    });
    expect(wrong).toEqual([]);
  }

  /** The log-probabilities that were reported are those of a fresh cache. */
  async #checkLogprobs(texts: readonly Text[], prompt: readonly number[]): Promise<number> {
    const logits = await freshLogits(this.#device, this.#target, prompt, texts);
    let worst = 0;
    const wrong: string[] = [];
    texts.forEach(({ tokens, logprobs }, sample) =>
      tokens.forEach((token, i) => {
        const row = logits[sample]![i]!;
        const exact = row[token]! - Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0));
        const error = Math.abs(logprobs[i]! - exact);
        worst = Math.max(worst, error);
        if (!(error < tolerated)) wrong.push(`sample ${sample}, token ${i}: ${logprobs[i]}, not ${exact}`);
      }),
    );
    expect(wrong).toEqual([]);
    return worst;
  }

  /** Frees everything. */
  [Symbol.dispose](): void {
    this.engine.dispose();
    this.#target.destroy();
    this.#draft.destroy();
    this.#rule.destroy();
  }
}

/** Logits before each token of the texts, from a cache that has seen nothing but them: `[text][token]`. */
async function freshLogits(
  device: Device,
  decoder: Decoder,
  prompt: readonly number[],
  texts: readonly Text[],
): Promise<Float32Array[][]> {
  const run = new DecoderRun(device, decoder, { dtype: 'f32', pageTokens: 64 });
  const root = run.cache.sequence();
  if (prompt.length > 1) await run.step([{ sequence: root, tokens: prompt.slice(0, -1) }]);
  const parts = texts.map(({ tokens }) => {
    return { sequence: root.fork(), tokens: [...prompt.slice(-1), ...tokens.slice(0, -1)] };
  });
  const logits = await run.step(parts);
  run.destroy();
  const { vocabSize } = decoder.config;
  return texts.map(({ tokens }, i) =>
    tokens.map((_, at) => logits[i]!.subarray(vocabSize * at, vocabSize * (at + 1))),
  );
}

/** Samples end at their first stop token or their last allowed one, and nowhere else. */
function checkEnds(texts: readonly Text[], { samples, stats }: GenerateResult, run: TortureRun): void {
  const { stopTokenIds = [], maxTokens } = run;
  texts.forEach(({ tokens }, i) => {
    const stop = tokens.findIndex((token) => stopTokenIds.includes(token));
    expect(tokens.length).toBe(stop < 0 ? maxTokens : stop + 1);
    expect(samples[i]!.finishReason).toBe(stop < 0 ? 'length' : 'stop');
    expect(samples[i]!.tokens).toEqual(stop < 0 ? tokens : tokens.slice(0, -1));
  });
  expect(stats.generatedTokens).toBe(texts.reduce((sum, { tokens }) => sum + tokens.length, 0));
}

/** Guesses were kept where the rule says so, and the counts say the same. */
function checkKept(judged: readonly JudgedGuess[], { stats }: GenerateResult, { seed }: TortureRun): void {
  const wrong = judged.filter(
    ({ sample, position, token, guess }) => keeps(seed + sample, position) !== (token === guess),
  );
  expect(wrong).toEqual([]);
  const kept = stats.speculation!.strategies.map((_, i) => {
    return judged.filter(({ token, guess, origin }) => token === guess && origin === i + 1).length;
  });
  expect(stats.speculation!.strategies.map(({ accepted }) => accepted)).toEqual(kept);
}
