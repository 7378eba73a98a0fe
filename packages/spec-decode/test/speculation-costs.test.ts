import { InvalidOptionError } from '@ensample/tensor';
import { describe, expect, it } from 'vitest';
import { expectedTimes, recordTime, SpeculationCosts } from '../src/speculation-costs.ts';

/** Rounds of each length that all took the same time. */
function measured(ms: Record<number, number>) {
  const batch = new SpeculationCosts().batch(8);
  for (const [length, time] of Object.entries(ms))
    batch.times.set(+length, { ms: time, last: time, rounds: 9 });
  return batch;
}

describe('recordTime', () => {
  const after = (...times: (number | undefined)[]): number | undefined => {
    const batch = measured({});
    for (const ms of times) recordTime(batch, 4, ms);
    return batch.times.get(4)?.ms;
  };

  it('takes the lesser of the first two', () => {
    expect(after(30, 10)).toBe(10);
    expect(after(10, 30)).toBe(10);
  });

  it('passes over one late round and follows two', () => {
    expect(after(10, 10, 100, 10, 10)).toBe(10);
    expect(after(10, 10, 20, 20, 20)).toBeCloseTo(13.6, 12);
    expect(after(20, 20, 10)).toBeCloseTo(18, 12);
  });

  it('takes no time that is none', () => {
    expect(after(undefined, NaN, Infinity, 0, -1)).toBeUndefined();
    expect(after(10, undefined, NaN, 0, 12)).toBe(10);
  });

  it('shares half of a change with the other lengths', () => {
    const batch = measured({ 0: 10, 4: 20, 8: 30 });
    for (const ms of [80, 80]) recordTime(batch, 4, ms);
    expect(batch.times.get(4)?.ms).toBeCloseTo(32, 12);
    expect(batch.times.get(0)?.ms).toBeCloseTo(10 * Math.sqrt(1.6), 12);
    expect(batch.times.get(8)?.ms).toBeCloseTo(30 * Math.sqrt(1.6), 12);
  });
});

describe('expectedTimes', () => {
  const all = (ms: Record<number, number>, lengths: number[], draftCost = 0.1): (number | undefined)[] => {
    const times = expectedTimes(measured(ms), draftCost, 32);
    expect(times).toHaveLength(33);
    return lengths.map((length) => times[length]);
  };

  it('prices drafts by the cost assumed while none was measured', () => {
    expect(all({ 0: 10 }, [0, 1, 4])).toEqual([10, 11, 14]);
    expect(all({ 0: 10 }, [0, 1, 4], 1)).toEqual([10, 20, 50]);
  });

  it('lies on the line between measured lengths, one token short', () => {
    expect(all({ 0: 10, 4: 18, 8: 40 }, [0, 1, 2, 3, 4, 5, 7, 8])).toEqual([10, 10, 12, 14, 18, 18, 29, 40]);
  });

  it('goes on with the slope of the longest and one half as long', () => {
    expect(all({ 0: 10, 3: 16, 6: 22 }, [7, 10])).toEqual([22, 28]);
    expect(all({ 0: 10, 5: 19, 6: 22 }, [7, 10])).toEqual([22, 28]); // 5 is too near to 6 to tell
    expect(all({ 0: 10, 4: 9 }, [5, 20])).toEqual([9, 9]); // never downwards
  });
});

describe('SpeculationCosts', () => {
  it('expects 0.6 of the first token before any draft', () => {
    const tokens = new SpeculationCosts().tokensByLength();
    expect(tokens).toHaveLength(33);
    expect(tokens.slice(0, 3)).toEqual([1, 1.6, 1.96]);
  });

  it('learns each position', () => {
    const costs = new SpeculationCosts();
    // Half of the drafts fail at once, the others are kept whole: 1 + l / 2 tokens.
    for (let round = 0; round < 100; round++) {
      costs.countAccepted({ length: 8, accepted: [0, 8, 0, 8, 0, 8, 0, 8], ms: undefined });
    }
    const tokens = costs.tokensByLength();
    for (const length of [1, 4, 8]) expect(tokens[length]! / (1 + length / 2)).toBeCloseTo(1, 1);
    expect(tokens[16]! / 9).toBeCloseTo(1, 1); // beyond what was drafted, as the last position
    expect(costs.report().acceptance).toBeCloseTo(32 / 36, 12);
  });

  it('counts recent rounds most', () => {
    const costs = new SpeculationCosts();
    for (let round = 0; round < 200; round++) costs.countAccepted({ length: 1, accepted: [0], ms: 1 });
    for (let round = 0; round < 14; round++) costs.countAccepted({ length: 1, accepted: [1], ms: 1 });
    expect(costs.report().acceptance).toBeCloseTo(1 - 0.95 ** 14, 3);
  });

  it('lets earlier runs count for 16 draft tokens', () => {
    const costs = new SpeculationCosts();
    for (let round = 0; round < 50; round++)
      costs.countAccepted({ length: 1, accepted: [1, 1, 1, 1], ms: 1 });
    costs.fadeAccepted();
    costs.countAccepted({ length: 1, accepted: Array.from({ length: 16 }, () => 0), ms: 1 });
    expect(costs.report().acceptance).toBeCloseTo(0.95 / 1.95, 12);
  });

  it('reports by number of samples, up to the next power of two', () => {
    const costs = new SpeculationCosts();
    expect(costs.report()).toEqual({ acceptance: undefined, batches: [] });
    recordTime(costs.batch(5), 0, 10);
    recordTime(costs.batch(8), 4, 14);
    recordTime(costs.batch(4), 0, 6);
    recordTime(costs.batch(1), 3, 2);
    expect(costs.report().batches).toEqual([
      { samples: 1, ms: { 3: 2 } },
      { samples: 4, ms: { 0: 6 } },
      { samples: 8, ms: { 0: 10, 4: 14 } },
    ]);
  });

  it('refuses a cost below 0', () => {
    expect(() => new SpeculationCosts({ draftCost: -0.1 })).toThrow(
      'draftCost is -0.1; expected a number from 0 up.',
    );
    expect(() => new SpeculationCosts({ draftCost: NaN })).toThrow(InvalidOptionError);
  });
});
