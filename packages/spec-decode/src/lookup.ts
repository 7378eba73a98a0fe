import { InvalidOptionError, kernel, sequenceChunk } from '@ensample/tensor';
import { lookupBody } from './lookup.wgsl.ts';
import type { DraftStrategy } from './strategy.ts';

/** How many tokens must be the same before what follows them is guessed. */
export interface LookupOptions {
  /** Most tokens compared. From `shortest` to 63. Default 8. */
  readonly longest?: number;
  /** Fewest tokens that count as found. From 1. Default 3. */
  readonly shortest?: number;
}

/** A strategy that searches the history on the device, in one dispatch for all samples. */
export function lookup(name: string, source: 'own' | 'siblings', options: LookupOptions): DraftStrategy {
  const { longest = 8, shortest = 3 } = options;
  if (
    !Number.isInteger(shortest) ||
    !Number.isInteger(longest) ||
    shortest < 1 ||
    longest < shortest ||
    longest > 63
  ) {
    throw new InvalidOptionError(
      `${name}: shortest is ${shortest} and longest ${longest}: they must be integers, 1 ≤ shortest ≤ longest ≤ 63`,
    );
  }
  return {
    name,
    propose: async ({ tensors, origin, samples, record }) => {
      const constants = {
        LONGEST: longest,
        SHORTEST: shortest,
        OWN: source === 'own' ? 1 : 0,
        ORIGIN: origin,
      };
      const { slots, sequences, states, history } = tensors;
      const code = kernel(name, { constants }, sequenceChunk, lookupBody);
      return [await record(name, (pass) => pass.run(code, { slots, sequences, states, history }, [samples]))];
    },
  };
}
