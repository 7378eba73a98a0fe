import { seeded, type Random } from '@ensample/testing';
import { autoController } from '../src/auto-length.ts';
import { expectedTokens } from '../src/draft-length.ts';
import { SpeculationCosts, type SpeculationCostsOptions } from '../src/speculation-costs.ts';

/** Longest draft of a {@link Machine}. */
export const limit = 32;

/** What a run meets; functions of the round where it changes. */
export interface World {
  /** True milliseconds of a round. */
  ms: (length: number, round: number) => number;
  /** Draft tokens that a sample keeps of `length`. */
  kept: (random: Random, length: number, round: number) => number;
  /** Mean of `kept`, and the target's own token. */
  tokens: (length: number, round: number) => number;
}

/** Every draft token is kept with the same chance where those before it were. */
export function independent(acceptance: (round: number) => number, ms: World['ms']): World {
  return {
    ms,
    kept: (random, length, round) => {
      let count = 0;
      while (count < length && random.uniform() < acceptance(round)) count++;
      return count;
    },
    tokens: (length, round) => expectedTokens(acceptance(round), length),
  };
}

/** A machine on which runs follow each other: two rounds in flight, times with noise, the first of a kind unmeasured. */
export class Machine {
  readonly costs: SpeculationCosts;
  readonly samples: number;
  readonly #random: Random;
  readonly #seen = new Set<number>();

  constructor(samples: number, seed: number, options?: SpeculationCostsOptions) {
    this.samples = samples;
    this.costs = new SpeculationCosts(options);
    this.#random = seeded(seed);
  }

  /**
   * @param catchUp plain rounds after which the run cannot draft any more
   * @returns the length of each round, and its tokens a millisecond as a part of the best that was possible
   */
  run(world: World, rounds: number, catchUp: number = Infinity): { lengths: number[]; gains: number[] } {
    const controller = autoController({ costs: this.costs, samples: this.samples, limit });
    const lengths: number[] = [];
    const gains: number[] = [];
    let plain = 0;
    const submit = (): void => {
      const length = plain > catchUp ? 0 : controller.length;
      plain = length === 0 ? plain + 1 : 0;
      lengths.push(length);
    };
    submit();
    for (let round = 0; round < rounds; round++) {
      submit();
      const length = lengths[round]!;
      const rate = (candidate: number): number => world.tokens(candidate, round) / world.ms(candidate, round);
      gains.push(
        rate(length) / Math.max(...Array.from({ length: limit + 1 }, (_, candidate) => rate(candidate))),
      );
      const accepted = Array.from({ length: this.samples }, () => world.kept(this.#random, length, round));
      controller.observe({ length, accepted, ms: this.#measure(length, world.ms(length, round)) });
    }
    return { lengths: lengths.slice(0, rounds), gains };
  }

  /** 4 % of noise, and one in 50 takes twice as long. */
  #measure(length: number, ms: number): number | undefined {
    const noisy = ms * (0.96 + 0.08 * this.#random.uniform()) * (this.#random.uniform() < 0.02 ? 2 : 1);
    if (this.#seen.has(length)) return noisy;
    this.#seen.add(length);
    return undefined;
  }
}
