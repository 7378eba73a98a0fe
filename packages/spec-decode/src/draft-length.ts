import { InvalidOptionError } from '@ensample/tensor';

/** Most tokens that a sample drafts in a round: l_limit of BASS. */
export const maxDraftLength = 32;

/** What a finished round says to its controller. */
export interface RoundReport {
  /** Draft length the round ran with; 0 for a plain step. */
  readonly length: number;
  /** Draft tokens kept, one count for each running sample, 0 to `length`; empty where all had stopped. */
  readonly accepted: readonly number[];
  /**
   * Milliseconds the round took on the device; undefined where not measured well (first of its kind, or the device
   * idled).
   */
  readonly ms: number | undefined;
}

/** Decides how many tokens to draft in the next round; one length serves the whole batch. */
export interface DraftLengthController {
  /** Tokens to draft for every sample in the next round; 0 is plain decoding. */
  readonly length: number;
  /**
   * Reports a finished round. Two rounds are in flight: when a round is reported, the next has already been submitted
   * with the length given before.
   *
   * @throws InvalidOptionError where a count is out of its range
   */
  observe(report: RoundReport): void;
}

/**
 * Always the same length.
 *
 * @param length tokens to draft, 0 to 32; 0 is plain decoding
 * @throws InvalidOptionError for a length out of its range
 */
export function fixedController(length: number): DraftLengthController {
  checkInteger('draftLength', length, 0, maxDraftLength);
  return { length, observe: checkReport };
}

/** The constants of BASS; the defaults are the paper's. */
export interface BassOptions {
  /** First length (l0). Default 7, or `limit` where that is less; 1 to `limit`. */
  initial?: number;
  /** Tokens more after a round in which some sample kept its whole draft (l_incre). Default 2; 1 and up. */
  increase?: number;
  /** A shorter length loses its `divisor`th part, rounded up (l_mod). Default 10; 1 and up. */
  divisor?: number;
  /** Longest length (l_limit). Default 32; 1 and up. */
  limit?: number;
}

/**
 * BASS, Algorithm 1 (arXiv 2404.15778): longer while some sample keeps its whole draft; else shorter, faster after the
 * first miss, but never below the best count of the round. It follows the best sample, so it grows with the batch.
 *
 * The algorithm wants each report before it gives the next length: with two rounds in flight, use two controllers in
 * turn. Plain rounds and rounds without running samples change nothing.
 *
 * @throws InvalidOptionError for an option out of its range
 */
export function bassController(options: BassOptions = {}): DraftLengthController {
  const { initial, increase, divisor, limit } = checked(options);
  let length = initial;
  let missed = 0; // 1 after a miss
  return {
    get length() {
      return length;
    },
    observe(report) {
      checkReport(report);
      const { length: drafted, accepted } = report;
      if (drafted === 0 || accepted.length === 0) return;
      const best = Math.max(...accepted);
      if (best === drafted) {
        length = Math.min(drafted + increase, limit);
        missed = 0;
      } else {
        length = Math.max(1, best, drafted - Math.ceil(drafted / divisor) - missed);
        missed = 1;
      }
    },
  };
}

/**
 * Expected tokens a sample gains in a round: the draft tokens kept, and the target's own that follows them,
 * (1 − α^(l+1)) / (1 − α).
 *
 * @param acceptance α, the chance that a draft token is kept where those before it were; 0 to 1
 * @param length l, tokens drafted; 0 and up
 * @throws InvalidOptionError for a value out of its range
 */
export function expectedTokens(acceptance: number, length: number): number {
  if (!(acceptance >= 0 && acceptance <= 1)) {
    throw new InvalidOptionError(`acceptance is ${acceptance}; expected a number from 0 to 1.`);
  }
  checkInteger('length', length, 0, Number.MAX_SAFE_INTEGER);
  return acceptance === 1 ? length + 1 : (1 - acceptance ** (length + 1)) / (1 - acceptance);
}

function checked({
  increase = 2,
  divisor = 10,
  limit = maxDraftLength,
  initial = Math.min(7, limit),
}: BassOptions): Required<BassOptions> {
  checkInteger('limit', limit, 1, 1024);
  checkInteger('initial', initial, 1, limit);
  checkInteger('increase', increase, 1, 1024);
  checkInteger('divisor', divisor, 1, 1024);
  return { initial, increase, divisor, limit };
}

/** @throws InvalidOptionError where the length is none, or a count is not from 0 to the length. */
export function checkReport({ length, accepted }: RoundReport): void {
  checkInteger('length', length, 0, Number.MAX_SAFE_INTEGER);
  accepted.forEach((count, i) => {
    checkInteger(`accepted[${i}]`, count, 0, length);
  });
}

/** @throws InvalidOptionError where `value` is not an integer from `min` to `max`. */
export function checkInteger(name: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new InvalidOptionError(`${name} is ${value}; expected an integer from ${min} to ${max}.`);
}
