import { checkInteger, checkReport, maxDraftLength } from './draft-length.ts';
import type { DraftLengthController, RoundReport } from './draft-length.ts';
import {
  expectedTimes,
  firstPatience,
  recordTime,
  type BatchCosts,
  type SpeculationCosts,
} from './speculation-costs.ts';

/** Options of {@link autoController}. */
export interface AutoOptions {
  /** What the engine knows from earlier runs; this run adds to it. */
  costs: SpeculationCosts;
  /** Samples of the run; 1 and up. */
  samples: number;
  /** Longest draft, 0 to 32. */
  limit: number;
}

/** A length must promise this much more than the present one to replace it. */
const margin = 1.03;
/** Tokens by draft length where every draft is kept whole. */
const allKept = Array.from({ length: maxDraftLength + 1 }, (_, length) => length + 1);
/** Plain rounds that are measured before anything is drafted. */
const plainRoundsFirst = 2;
/** Rounds that a length runs before it is judged: the first is often not measured, and a second time is wanted. */
const trialRounds = 4;
/** Longest first draft; later ones at most double the longest that was measured. */
const firstReach = 4;
/** Plain rounds between two tries of drafting, at most. */
const longestPatience = 1024;
/** Reports without a usable time once the batch has shrunk: rounds in flight still had the rows of before. */
const settlingReports = 2;

/**
 * The draft length with the most expected tokens per millisecond, by what was measured: acceptance by position in the
 * draft, over all samples, and the time of a round by draft length. BASS (arXiv 2404.15778) sets the length by
 * acceptance alone, and drafts too much where drafts or rows are dear.
 *
 * - A batch size begins with plain rounds, then drafts what the assumed cost lets expect, then follows the times.
 *   As samples stop, the batch size follows.
 * - Where no draft pays, it decodes plainly and tries again after 64 plain rounds, after twice as many each time in
 *   vain. The count runs on from run to run.
 * - A length is only a wish: a round may be reported with another, 0 too.
 *
 * @throws InvalidOptionError for an option out of its range
 */
export function autoController({ costs, samples, limit }: AutoOptions): DraftLengthController {
  checkInteger('samples', samples, 1, Number.MAX_SAFE_INTEGER);
  checkInteger('limit', limit, 0, maxDraftLength);
  costs.fadeAccepted();
  return new AutoController(costs, samples, limit);
}

class AutoController implements DraftLengthController {
  readonly #costs: SpeculationCosts;
  readonly #limit: number;
  #batch: BatchCosts;
  #length = 0;
  /** Rounds until `length` is judged. */
  #trial = 0;
  /** Whether `length` is a try of drafting after plain rounds. */
  #retrying = false;
  /** Reports whose times are those of a larger batch. */
  #settling = 0;

  constructor(costs: SpeculationCosts, samples: number, limit: number) {
    this.#costs = costs;
    this.#limit = limit;
    this.#batch = costs.batch(samples);
    this.#choose();
  }

  get length(): number {
    return this.#length;
  }

  observe(report: RoundReport): void {
    checkReport(report);
    if (report.accepted.length === 0) return;
    this.#follow(report.accepted.length);
    this.#learn(report);
    if (report.length > 0 === this.#length > 0) this.#trial--;
    if (this.#trial <= 0) this.#choose();
  }

  #follow(running: number): void {
    const batch = this.#costs.batch(running);
    if (batch === this.#batch) return;
    this.#batch = batch;
    this.#settling = settlingReports;
    this.#trial = 0;
    this.#retrying = false;
  }

  #learn(report: RoundReport): void {
    const { length, ms } = report;
    if (this.#settling > 0) this.#settling--;
    else recordTime(this.#batch, length, ms);
    this.#batch.plainRounds = length === 0 ? this.#batch.plainRounds + 1 : 0;
    if (length > 0) this.#costs.countAccepted(report);
  }

  #choose(): void {
    const batch = this.#batch;
    let next = this.#best(this.#costs.tokensByLength(), 0);
    if (this.#retrying) {
      batch.patience = next > 0 ? firstPatience : Math.min(2 * batch.patience, longestPatience);
    }
    this.#retrying = next === 0 && batch.plainRounds >= batch.patience && this.#best(allKept, 0) > 0;
    if (this.#retrying) {
      this.#costs.fadeAccepted();
      next = this.#best(this.#costs.tokensByLength(), 1);
    }
    if (this.#retrying || !batch.times.has(next)) this.#trial = trialRounds;
    this.#length = next;
  }

  /** The length from `from` up with the most of `tokens` per millisecond; the present one unless clearly beaten. */
  #best(tokens: readonly number[], from: number): number {
    const { times } = this.#batch;
    if ((times.get(0)?.rounds ?? 0) < plainRoundsFirst) return 0;
    const reach = Math.min(this.#limit, Math.max(firstReach, 2 * Math.max(...times.keys())));
    const rates = expectedTimes(this.#batch, this.#costs.draftCost, reach).map(
      (ms, length) => tokens[length]! / ms,
    );
    let best = Math.min(Math.max(from, this.#length), reach);
    let least = margin * rates[best]!;
    for (let length = from; length <= reach; length++) {
      if (rates[length]! <= least) continue;
      best = length;
      least = rates[length]!;
    }
    return best;
  }
}
