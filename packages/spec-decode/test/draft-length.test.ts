import { InvalidOptionError } from '@ensample/tensor';
import { seeded } from '@ensample/testing';
import { describe, expect, it } from 'vitest';
import { bassController, expectedTokens, fixedController } from '../src/draft-length.ts';

/** Every draft token is kept with chance `acceptance` where those before it were; means over `steps`. */
function simulate(acceptance: number, batch: number, steps: number): { tokens: number; length: number } {
  const controller = bassController();
  const random = seeded(1000 * batch + 100 * acceptance);
  const kept = (): number => {
    let count = 0;
    while (count < controller.length && random.uniform() < acceptance) count++;
    return count;
  };
  let tokens = 0;
  let length = 0;
  for (let step = 0; step < steps; step++) {
    const accepted = Array.from({ length: batch }, kept);
    tokens += accepted.reduce((sum, count) => sum + count + 1, 0) / batch;
    length += controller.length;
    controller.observe({ length: controller.length, accepted, ms: undefined });
  }
  return { tokens: tokens / steps, length: length / steps };
}

describe('bassController', () => {
  it('follows Algorithm 1 step by step', () => {
    const controller = bassController();
    const after = (...accepted: number[]): number => {
      controller.observe({ length: controller.length, accepted, ms: 3 });
      return controller.length;
    };
    expect(controller.length).toBe(7);
    expect(after(3, 7)).toBe(9); // one kept all: + 2
    expect(after(0, 2)).toBe(8); // first miss: − ⌈9 / 10⌉
    expect(after(1, 2)).toBe(6); // second miss: − ⌈8 / 10⌉ − 1
    expect(after(5, 0)).toBe(5); // never below the best
    expect(after(5, 5)).toBe(7); // all kept: misses forgotten
    expect(after(0, 0)).toBe(6);
    expect([after(0), after(0), after(0), after(0)]).toEqual([4, 2, 1, 1]);
  });

  it('grows up to its limit', () => {
    const controller = bassController({ initial: 4, increase: 5, limit: 11 });
    controller.observe({ length: 4, accepted: [4], ms: undefined });
    expect(controller.length).toBe(9);
    controller.observe({ length: 9, accepted: [9], ms: undefined });
    controller.observe({ length: 11, accepted: [11], ms: undefined });
    expect(controller.length).toBe(11);
  });

  it('starts at a limit below 7', () => {
    expect(bassController({ limit: 3 }).length).toBe(3);
  });

  it('takes the length that the round ran with', () => {
    const controller = bassController();
    controller.observe({ length: 4, accepted: [4], ms: undefined });
    expect(controller.length).toBe(6);
  });

  it('learns nothing from plain rounds and from rounds without samples', () => {
    const controller = bassController();
    controller.observe({ length: 7, accepted: [], ms: 3 });
    controller.observe({ length: 0, accepted: [0, 0], ms: 3 });
    expect(controller.length).toBe(7);
    controller.observe({ length: 7, accepted: [0], ms: 3 });
    expect(controller.length).toBe(6); // still the first miss
  });

  // Tokens a step and mean length for independent tokens, from a simulation of 20 000 steps made apart from this code.
  // prettier-ignore
  const table: [acceptance: number, batch: number, tokens: number, length: number][] = [
    [0.6, 1, 2.00, 2.6], [0.6, 2, 2.15, 3.4], [0.6, 4, 2.28, 4.5], [0.6, 8, 2.38, 5.8], [0.6, 16, 2.44, 7.0],
    [0.8, 1, 3.38, 4.6], [0.8, 2, 3.95, 6.7], [0.8, 4, 4.37, 9.0], [0.8, 8, 4.63, 11.4], [0.8, 16, 4.80, 14.2],
    [0.87, 1, 4.78, 6.5], [0.87, 2, 5.76, 9.5], [0.87, 4, 6.51, 13.1], [0.87, 8, 7.02, 17.1], [0.87, 16, 7.31, 21.2],
    [0.9, 1, 5.89, 7.9], [0.9, 2, 7.17, 11.7], [0.9, 4, 8.30, 16.5], [0.9, 8, 9.01, 21.6], [0.9, 16, 9.42, 26.7],
  ];
  it.each(table)('α = %d, batch %d: %d tokens a step with length %d', (acceptance, batch, tokens, length) => {
    const mean = simulate(acceptance, batch, 20_000);
    expect(Math.abs(mean.tokens / tokens - 1)).toBeLessThan(0.015);
    expect(Math.abs(mean.length / length - 1)).toBeLessThan(0.03);
  });

  it('refuses wrong counts and options', () => {
    const controller = bassController();
    expect(() => {
      controller.observe({ length: 7, accepted: [3, 8], ms: undefined });
    }).toThrow('accepted[1] is 8; expected an integer from 0 to 7.');
    expect(() => {
      controller.observe({ length: 7, accepted: [-1], ms: undefined });
    }).toThrow(InvalidOptionError);
    expect(() => {
      controller.observe({ length: 1.5, accepted: [1], ms: undefined });
    }).toThrow('length is 1.5; expected an integer from 0');
    expect(controller.length).toBe(7);
    expect(() => bassController({ limit: 0 })).toThrow('limit is 0; expected an integer from 1 to 1024.');
    expect(() => bassController({ initial: 33 })).toThrow('initial is 33; expected an integer from 1 to 32.');
    expect(() => bassController({ increase: 1.5 })).toThrow('increase is 1.5; expected an integer');
    expect(() => bassController({ divisor: NaN })).toThrow('divisor is NaN; expected an integer');
  });
});

describe('fixedController', () => {
  it('keeps its length', () => {
    for (const length of [0, 5, 32]) {
      const controller = fixedController(length);
      controller.observe({ length, accepted: [0, length], ms: 1 });
      controller.observe({ length: 0, accepted: [], ms: undefined });
      expect(controller.length).toBe(length);
    }
  });

  it('refuses lengths out of range', () => {
    expect(() => fixedController(33)).toThrow('draftLength is 33; expected an integer from 0 to 32.');
    expect(() => fixedController(-1)).toThrow(InvalidOptionError);
  });

  it('refuses wrong counts', () => {
    expect(() => {
      fixedController(3).observe({ length: 3, accepted: [4], ms: undefined });
    }).toThrow('accepted[0] is 4; expected an integer from 0 to 3.');
  });
});

describe('expectedTokens', () => {
  it('is the sum of the chances that each token is reached', () => {
    expect(expectedTokens(0.5, 2)).toBeCloseTo(1.75, 12);
    expect(expectedTokens(0.8, 0)).toBeCloseTo(1, 12);
    expect(expectedTokens(0, 5)).toBe(1);
    expect(expectedTokens(1, 5)).toBe(6);
  });

  it('refuses values out of range', () => {
    expect(() => expectedTokens(1.1, 2)).toThrow('acceptance is 1.1; expected a number from 0 to 1.');
    expect(() => expectedTokens(NaN, 2)).toThrow(InvalidOptionError);
    expect(() => expectedTokens(0.5, -1)).toThrow('length is -1; expected an integer from 0');
  });
});
