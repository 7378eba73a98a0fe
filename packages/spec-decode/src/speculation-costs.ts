import { InvalidOptionError } from '@ensample/tensor';
import { maxDraftLength, type RoundReport } from './draft-length.ts';

/** Options of {@link SpeculationCosts}. */
export interface SpeculationCostsOptions {
  /**
   * What a drafted token is taken to cost before any round with drafts was measured, in plain rounds: a round that
   * drafts l tokens takes as long as 1 + l · `draftCost` plain ones. Default 0.1, for GPUs, where the rows of a round
   * are nearly free. With 1, for drivers that run on the CPU, even a draft that is always kept whole gains nothing, so
   * `auto` never drafts. 0 and up.
   */
  draftCost?: number;
}

/** What is known about rounds of one batch size. Times are those of {@link recordTime}. */
export interface BatchCosts {
  /** Mean times of rounds by their draft length. */
  readonly times: Map<number, MeasuredTime>;
  /** Plain rounds since the last one with drafts. */
  plainRounds: number;
  /** Plain rounds after which drafting is tried again. */
  patience: number;
}

interface MeasuredTime {
  /** Moving mean. */
  ms: number;
  /** As last measured. */
  last: number;
  /** Times measured. */
  rounds: number;
}

/** Measured acceptance and times, for people to read. */
export interface SpeculationReport {
  /**
   * Chance that a draft token is kept where those before it were, over all positions; recent rounds count most.
   * Undefined before any was drafted.
   */
  readonly acceptance: number | undefined;
  /** Milliseconds of a round by draft length, for batches of up to `samples` samples (a power of two). */
  readonly batches: readonly { readonly samples: number; readonly ms: Readonly<Record<number, number>> }[];
}

/** Plain rounds after which drafting is first tried again; see {@link BatchCosts.patience}. */
export const firstPatience = 64;

/** Acceptance assumed of the first draft token, and how many tokens measured there weigh as much. */
const prior = { acceptance: 0.6, weight: 4 };
/** Draft tokens that all earlier runs count for at the start of a run: their text was another. */
const memory = 16;
/** What a round's draft tokens count for in the round after it. */
const decay = 0.95;

/**
 * What an engine remembers between runs about speculation: the acceptance of its drafts, and how long rounds take by
 * number of samples and draft length. Give the same one to every {@link autoController} of an engine.
 */
export class SpeculationCosts {
  /** See {@link SpeculationCostsOptions.draftCost}. */
  readonly draftCost: number;
  readonly #batches = new Map<number, BatchCosts>();
  /** By position in the draft: tokens whose forerunners were all kept, and how many of them were kept. Old ones fade. */
  readonly #reached = new Float64Array(maxDraftLength);
  readonly #kept = new Float64Array(maxDraftLength);

  /** @throws InvalidOptionError for a cost below 0. */
  constructor({ draftCost = 0.1 }: SpeculationCostsOptions = {}) {
    if (!(draftCost >= 0 && Number.isFinite(draftCost))) {
      throw new InvalidOptionError(`draftCost is ${draftCost}; expected a number from 0 up.`);
    }
    this.draftCost = draftCost;
  }

  /** Counts the draft tokens of a round. */
  countAccepted({ length, accepted }: RoundReport): void {
    this.#scale(decay);
    for (const count of accepted) {
      for (let i = 0; i < count; i++) this.#kept[i]! += 1;
      for (let i = 0; i < Math.min(count + 1, length); i++) this.#reached[i]! += 1;
    }
  }

  /** Lets what was accepted so far count for little, since what follows may be another text. */
  fadeAccepted(): void {
    const all = sum(this.#reached);
    if (all > memory) this.#scale(memory / all);
  }

  #scale(factor: number): void {
    for (const counts of [this.#reached, this.#kept])
      counts.forEach((count, i) => (counts[i] = factor * count));
  }

  /**
   * Tokens that a sample is expected to gain in a round, by draft length: the sum of the chances that each draft token
   * is reached and kept, and the target's own token.
   *
   * Each position has its own chance. With one for all, as if tokens were independent, lookups would never draft long:
   * they fail at the first token or copy whole spans. Where little was measured, the position before decides.
   */
  tokensByLength(): number[] {
    const tokens = [1];
    let chance = prior.acceptance;
    let allKept = 1;
    this.#reached.forEach((reached, i) => {
      chance = (this.#kept[i]! + prior.weight * chance) / (reached + prior.weight);
      allKept *= chance;
      tokens.push(tokens[i]! + allKept);
    });
    return tokens;
  }

  /** What is known about rounds of `samples` running samples, shared by all numbers with the same next power of two. */
  batch(samples: number): BatchCosts {
    const size = 2 ** Math.ceil(Math.log2(samples));
    let batch = this.#batches.get(size);
    if (!batch) {
      batch = { times: new Map(), plainRounds: 0, patience: firstPatience };
      this.#batches.set(size, batch);
    }
    return batch;
  }

  /** What was measured so far. */
  report(): SpeculationReport {
    const batches = [...this.#batches].sort(([a], [b]) => a - b);
    const reached = sum(this.#reached);
    return {
      acceptance: reached > 0 ? sum(this.#kept) / reached : undefined,
      batches: batches.map(([samples, { times }]) => ({
        samples,
        ms: Object.fromEntries([...times].map(([length, { ms }]) => [length, ms])),
      })),
    };
  }
}

/**
 * Takes in how long a round took. Each length has a moving mean of the lesser of its last two times, so that one late
 * round counts for nothing. Half of each change goes to all other lengths: a longer context makes every round slower.
 *
 * @param ms ignored unless a positive number
 */
export function recordTime({ times }: BatchCosts, length: number, ms: number | undefined): void {
  if (ms === undefined || !(ms > 0 && Number.isFinite(ms))) return;
  const time = times.get(length);
  if (!time) {
    times.set(length, { ms, last: ms, rounds: 1 });
    return;
  }
  const { ms: before, last, rounds } = time;
  const lesser = Math.min(last, ms);
  time.ms = rounds === 1 ? lesser : before + 0.2 * (lesser - before);
  time.last = ms;
  time.rounds++;
  if (rounds === 1) return;
  const shared = Math.sqrt(time.ms / before);
  for (const other of times.values()) if (other !== time) other.ms *= shared;
}

/**
 * Milliseconds that rounds will take, by draft length from 0 to `longest`, once plain rounds were measured.
 *
 * A length never measured lies on the line through its measured neighbours, or through the longest measured and one at
 * most half as long, but one token nearer to the shorter one. Time often goes up in steps, and where a step lies between
 * two measured lengths shows only by running them: the favour has a length run where it could be the best.
 */
export function expectedTimes({ times }: BatchCosts, draftCost: number, longest: number): number[] {
  const ms = (length: number): number => times.get(length)?.ms ?? NaN;
  if (times.size === 1)
    return Array.from({ length: longest + 1 }, (_, length) => ms(0) * (1 + length * draftCost));
  const measured = [...times.keys()].sort((a, b) => a - b);
  const slope = (from: number, to: number): number => (ms(to) - ms(from)) / (to - from);
  const slopeAfter = (shorter: number): number => {
    const longer = measured.find((length) => length > shorter);
    if (longer !== undefined) return slope(shorter, longer);
    return Math.max(0, slope(measured.findLast((length) => length <= shorter / 2) ?? 0, shorter));
  };
  const expected: number[] = [];
  let shorter = 0;
  let rise = 0;
  for (let length = 0; length <= longest; length++) {
    if (times.has(length)) {
      expected.push(ms(length));
      shorter = length;
      rise = slopeAfter(length);
    } else {
      expected.push(ms(shorter) + rise * (length - 1 - shorter));
    }
  }
  return expected;
}

function sum(counts: Float64Array): number {
  return counts.reduce((total, count) => total + count, 0);
}
