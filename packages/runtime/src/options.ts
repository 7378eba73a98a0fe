import { coupled, maxDraftLength, rejection, type AcceptanceRule } from '@ensample/spec-decode';
import { InvalidOptionError } from '@ensample/tensor';
import type { Prompt } from './model.ts';

/** How samples are drawn. */
export interface SamplingOptions {
  /** Randomness; 0 always takes the likeliest token. From 0 to 100. Default 0.8. */
  readonly temperature?: number;
  /** Keep only the k likeliest tokens; 0 keeps all. Default 0. */
  readonly topK?: number;
  /** Keep the likeliest tokens that together reach this probability. Above 0, up to 1. Default 0.95. */
  readonly topP?: number;
  /** Keep tokens at least this fraction as likely as the likeliest one. From 0 to 1. Default 0. */
  readonly minP?: number;
  /** Divides the logits of tokens already in prompt or output (multiplies negative ones). Above 0, up to 10. Default 1. */
  readonly repetitionPenalty?: number;
  /** Subtracted from the logits of tokens already in the output. From −10 to 10. Default 0. */
  readonly presencePenalty?: number;
  /** Subtracted once for each time a token is in the output. From −10 to 10. Default 0. */
  readonly frequencyPenalty?: number;
  /** Added to the logits of token ids; from −1000 to 1000. Default none. */
  readonly logitBias?: Readonly<Record<number, number>>;
  /**
   * Seed of the draws: sample i uses seed + i, whatever else is in the batch. An integer from 0 to 2⁵³ − 257.
   * Default: a new random one each time, reported in the stats.
   */
  readonly seed?: number;
}

/** When a sample ends. */
export interface StoppingOptions {
  /** Most tokens of a sample; it also ends at the model's context length. From 1. Default 128. */
  readonly maxTokens?: number;
  /** Strings that end a sample; they are not part of its text. At most 16. Default none. */
  readonly stop?: string | readonly string[];
  /** Token ids that end a sample, besides the model's own end tokens. At most 32. Default none. */
  readonly stopTokenIds?: readonly number[];
  /** Go on through the model's end tokens. Default false. */
  readonly ignoreEos?: boolean;
}

/** How drafts are made and judged, where the engine has a `draft`. */
export interface SpeculationOptions {
  /**
   * Tokens guessed per round: `'auto'` by measured times and acceptance, plain decoding where that is faster; `'bass'`
   * by Algorithm 1 of BASS; or a number from 0 (plain decoding) to 32. Default `'auto'`.
   */
  readonly draftLength?: 'auto' | 'bass' | number;
  /**
   * `'coupled'`: the tokens are those of plain decoding with the same seed. `'rejection'`: the rule of the papers; their
   * law is the target's, and they repeat only with a numeric `draftLength`; or a rule of your own. Default `'coupled'`.
   */
  readonly acceptance?: 'coupled' | 'rejection' | AcceptanceRule;
  /** Temperature of a draft model. From 0 to 100. Default: `temperature`. */
  readonly draftTemperature?: number;
}

/** Options of `generate` and `stream` of a session. */
export interface GenerateOptions extends SamplingOptions, StoppingOptions, SpeculationOptions {
  /** Samples to return. From 1 to 256. Default 1. */
  readonly n?: number;
  /** Samples to draw, of which the `n` best by mean log-probability are returned. From n to 256. Default n. */
  readonly bestOf?: number;
  /** Order of the samples: best mean log-probability first, or by index. Default `'none'`; with bestOf `'mean-logprob'`. */
  readonly rank?: 'mean-logprob' | 'none';
  /** Report each token's log-probability under the model's own distribution. Default false. */
  readonly logprobs?: boolean;
  /**
   * Milliseconds after which the call returns with what there is, waiting and prefill included; samples that have not
   * finished by then have the finish reason `'time'`, and ranking puts them last. From 1. Default: no limit.
   */
  readonly timeBudgetMs?: number;
  /** Ends the run; the call rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Options of `generate` and `stream` of an engine. */
export interface PromptedOptions extends GenerateOptions {
  /** What to continue. */
  readonly prompt: Prompt;
}

/** Options with their defaults. */
export interface ResolvedOptions {
  readonly samples: number;
  readonly returned: number;
  readonly rank: 'mean-logprob' | 'none';
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly logitBias: ReadonlyMap<number, number>;
  readonly seed: number;
  readonly stop: readonly string[];
  readonly stopTokenIds: readonly number[];
  readonly ignoreEos: boolean;
  readonly logprobs: boolean;
  readonly draftLength: 'auto' | 'bass' | number;
  readonly acceptance: AcceptanceRule;
  readonly draftTemperature: number;
  /** Infinity where there is no limit. */
  readonly timeBudgetMs: number;
  readonly signal: AbortSignal | undefined;
}

/** Most samples of one request. */
export const maxSamples = 256;
const maxStops = 32;

interface Range {
  readonly least: number;
  readonly most: number;
  readonly integer?: boolean;
  /** The least value itself is not allowed. */
  readonly open?: boolean;
}

const ranges = {
  n: { least: 1, most: maxSamples, integer: true },
  bestOf: { least: 1, most: maxSamples, integer: true },
  maxTokens: { least: 1, most: 2 ** 31, integer: true },
  temperature: { least: 0, most: 100 },
  topK: { least: 0, most: 2 ** 31, integer: true },
  topP: { least: 0, most: 1, open: true },
  minP: { least: 0, most: 1 },
  repetitionPenalty: { least: 0, most: 10, open: true },
  presencePenalty: { least: -10, most: 10 },
  frequencyPenalty: { least: -10, most: 10 },
  draftLength: { least: 0, most: maxDraftLength, integer: true },
  draftTemperature: { least: 0, most: 100 },
  timeBudgetMs: { least: 1, most: 2 ** 31 },
  seed: { least: 0, most: 2 ** 53 - maxSamples - 1, integer: true },
} as const satisfies Record<string, Range>;

const known = new Set([
  ...Object.keys(ranges),
  ...['rank', 'logitBias', 'stop', 'stopTokenIds', 'ignoreEos', 'logprobs', 'acceptance', 'signal'],
]);

function inRange(name: keyof typeof ranges, value: number | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  const { least, most, integer, open }: Range = ranges[name];
  const fits = typeof value === 'number' && (open ? value > least : value >= least) && value <= most;
  if (!fits || (integer && !Number.isInteger(value))) {
    const from = open ? `above ${least}` : `from ${least}`;
    throw new InvalidOptionError(
      `${name} is ${show(value)}: it must be ${integer ? 'an integer' : 'a number'} ${from} up to ${most}`,
    );
  }
  return value;
}

/**
 * Checks options and fills in defaults.
 * @throws InvalidOptionError naming the option, its value and what is allowed.
 */
export function resolveOptions(options: GenerateOptions, vocabSize: number): ResolvedOptions {
  checkNames(options);
  const returned = inRange('n', options.n, 1);
  const samples = inRange('bestOf', options.bestOf, returned);
  if (samples < returned) {
    throw new InvalidOptionError(`bestOf is ${samples}: it must be at least n, which is ${returned}`);
  }
  return {
    samples,
    returned,
    rank: ranking(options.rank, samples > returned),
    maxTokens: inRange('maxTokens', options.maxTokens, 128),
    temperature: inRange('temperature', options.temperature, 0.8),
    topK: inRange('topK', options.topK, 0),
    topP: inRange('topP', options.topP, 0.95),
    minP: inRange('minP', options.minP, 0),
    repetitionPenalty: inRange('repetitionPenalty', options.repetitionPenalty, 1),
    presencePenalty: inRange('presencePenalty', options.presencePenalty, 0),
    frequencyPenalty: inRange('frequencyPenalty', options.frequencyPenalty, 0),
    logitBias: biases(options.logitBias, vocabSize),
    draftLength: draftLength(options.draftLength),
    acceptance: acceptanceRule(options.acceptance),
    draftTemperature: inRange('draftTemperature', options.draftTemperature, options.temperature ?? 0.8),
    timeBudgetMs:
      options.timeBudgetMs === undefined ? Infinity : inRange('timeBudgetMs', options.timeBudgetMs, 1),
    seed: inRange('seed', options.seed, Math.floor(Math.random() * 2 ** 32)),
    stop: stopStrings(options.stop),
    stopTokenIds: stopTokens(options.stopTokenIds, vocabSize),
    ignoreEos: flag('ignoreEos', options.ignoreEos),
    logprobs: flag('logprobs', options.logprobs),
    signal: abortSignal(options.signal),
  };
}

function checkNames(options: GenerateOptions): void {
  const unknown = Object.keys(options).find((name) => !known.has(name));
  if (unknown) throw new InvalidOptionError(`there is no option "${unknown}": use ${[...known].join(', ')}`);
}

function flag(name: string, value: boolean | undefined): boolean {
  if (value !== undefined && typeof value !== 'boolean') {
    throw new InvalidOptionError(`${name} is ${show(value)}: it must be true or false`);
  }
  return value ?? false;
}

function abortSignal(signal: AbortSignal | undefined): AbortSignal | undefined {
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new InvalidOptionError(`signal is ${show(signal)}: it must be the signal of an AbortController`);
  }
  return signal;
}

function stopTokens(ids: readonly number[] | undefined, vocabSize: number): number[] {
  if (ids !== undefined && !Array.isArray(ids)) {
    throw new InvalidOptionError(`stopTokenIds is ${show(ids)}: it must be an array of token ids`);
  }
  return (ids ?? []).map((id: number) => tokenId('stopTokenIds', id, vocabSize));
}

/** A value of any kind as text for a message. */
function show(value: unknown): string {
  if (typeof value === 'object' || typeof value === 'string') return JSON.stringify(value);
  return `${value as number}`; // any other kind, a number as a rule
}

function ranking(rank: GenerateOptions['rank'], selecting: boolean): 'mean-logprob' | 'none' {
  return oneOf('rank', rank, ['mean-logprob', 'none'], selecting ? 'mean-logprob' : 'none');
}

function oneOf<T extends string>(name: string, value: T | undefined, allowed: readonly T[], fallback: T): T {
  if (value !== undefined && !allowed.includes(value)) {
    throw new InvalidOptionError(`${name} is ${show(value)}: it must be '${allowed.join("' or '")}'`);
  }
  return value ?? fallback;
}

const rules = { coupled, rejection };

function acceptanceRule(rule: SpeculationOptions['acceptance']): AcceptanceRule {
  if (typeof rule === 'object' && typeof (rule as Partial<AcceptanceRule> | null)?.name === 'string')
    return rule;
  const named = rule as keyof typeof rules | undefined;
  return rules[oneOf('acceptance', named, ['coupled', 'rejection'], 'coupled')];
}

function draftLength(length: SpeculationOptions['draftLength']): 'auto' | 'bass' | number {
  if (length === undefined || length === 'auto' || length === 'bass') return length ?? 'auto';
  if (typeof length !== 'number') {
    throw new InvalidOptionError(
      `draftLength is ${show(length)}: it must be 'auto', 'bass' or an integer from 0 up to ${maxDraftLength}`,
    );
  }
  return inRange('draftLength', length, 0);
}

/**
 * Checks a token id.
 * @throws InvalidOptionError
 */
export function tokenId(name: string, id: number, vocabSize: number): number {
  if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
    throw new InvalidOptionError(
      `${name} holds ${show(id)}: token ids of this model are integers from 0 to ${vocabSize - 1}`,
    );
  }
  return id;
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

function biases(bias: SamplingOptions['logitBias'], vocabSize: number): ReadonlyMap<number, number> {
  if (bias !== undefined && !isObject(bias)) {
    throw new InvalidOptionError(
      `logitBias is ${show(bias)}: it must be an object from token ids to numbers`,
    );
  }
  const entries = Object.entries(bias ?? {}).map(([key, value]): [number, number] => {
    if (typeof value !== 'number' || !(value >= -1000 && value <= 1000)) {
      throw new InvalidOptionError(
        `logitBias of token ${key} is ${show(value)}: it must be a number from -1000 up to 1000`,
      );
    }
    return [tokenId('logitBias', Number(key), vocabSize), value];
  });
  return new Map(entries);
}

function stopStrings(stop: StoppingOptions['stop']): string[] {
  const strings: readonly unknown[] | undefined =
    stop === undefined ? [] : typeof stop === 'string' ? [stop] : Array.isArray(stop) ? stop : undefined;
  if (
    !strings ||
    strings.length > 16 ||
    !strings.every((s): s is string => typeof s === 'string' && s !== '')
  ) {
    throw new InvalidOptionError(
      `stop is ${JSON.stringify(stop)}: it must be up to 16 strings, none of them empty`,
    );
  }
  return [...strings];
}

/** Room for stop token ids on the GPU: those of the request and of the model. */
export const stopCapacity: number = 2 * maxStops;

/**
 * Token ids that end a sample.
 * @throws InvalidOptionError when there are more than fit.
 */
export function stopIds(options: ResolvedOptions, eosTokenIds: readonly number[]): number[] {
  const ids = [...new Set([...options.stopTokenIds, ...(options.ignoreEos ? [] : eosTokenIds)])];
  if (options.stopTokenIds.length > maxStops || ids.length > stopCapacity) {
    throw new InvalidOptionError(
      `stopTokenIds holds ${options.stopTokenIds.length} ids: at most ${maxStops} are allowed`,
    );
  }
  return ids;
}
