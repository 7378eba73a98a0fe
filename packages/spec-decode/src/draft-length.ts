import { InvalidOptionError } from '@ensample/tensor';

/** Decides how many tokens to draft in the next step; one length serves the whole batch. */
export interface DraftLengthController {
  /** Tokens to draft for every sequence in the next step; at least 1. */
  readonly length: number;
  /**
   * Reports a verified step.
   *
   * @param accepted draft tokens kept, one count for each sequence, 0 to `length`
   * @throws InvalidOptionError where a count is out of that range, or there is none
   */
  observe(accepted: readonly number[]): void;
}

/** The constants of BASS; the defaults are the paper's. */
export interface BassOptions {
  /** First length (l0). Default 7; 1 to `limit`. */
  initial?: number;
  /** Tokens more after a step in which some sequence kept its whole draft (l_incre). Default 2; 1 and up. */
  increase?: number;
  /** A shorter length loses its `divisor`th part, rounded up (l_mod). Default 10; 1 and up. */
  divisor?: number;
  /** Longest length (l_limit). Default 32; 1 and up. */
  limit?: number;
}

/**
 * BASS, Algorithm 1 (arXiv 2404.15778): longer while some sequence keeps its whole draft; else shorter, faster after the
 * first miss, but never below the best count of the step. It follows the best sequence, so it grows with the batch.
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
    observe(accepted) {
      checkCounts(accepted, length);
      const best = Math.max(...accepted);
      if (best === length) {
        length = Math.min(length + increase, limit);
        missed = 0;
      } else {
        length = Math.max(1, best, length - Math.ceil(length / divisor) - missed);
        missed = 1;
      }
    },
  };
}

/**
 * Expected tokens a sequence gains in a step: the draft tokens kept, and the target's own that follows them,
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
  initial = 7,
  increase = 2,
  divisor = 10,
  limit = 32,
}: BassOptions): Required<BassOptions> {
  checkInteger('limit', limit, 1, 1024);
  checkInteger('initial', initial, 1, limit);
  checkInteger('increase', increase, 1, 1024);
  checkInteger('divisor', divisor, 1, 1024);
  return { initial, increase, divisor, limit };
}

function checkCounts(accepted: readonly number[], length: number): void {
  if (accepted.length === 0)
    throw new InvalidOptionError('accepted is empty; expected one count for each sequence.');
  accepted.forEach((count, i) => {
    checkInteger(`accepted[${i}]`, count, 0, length);
  });
}

function checkInteger(name: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new InvalidOptionError(`${name} is ${value}; expected an integer from ${min} to ${max}.`);
}
