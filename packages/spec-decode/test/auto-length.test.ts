import { InvalidOptionError } from '@ensample/tensor';
import { describe, expect, it } from 'vitest';
import { autoController } from '../src/auto-length.ts';
import { SpeculationCosts, type SpeculationCostsOptions } from '../src/speculation-costs.ts';
import { independent, limit, Machine, type World } from './machine.ts';

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Mean over five seeds. */
function overSeeds(measure: (seed: number) => number): number {
  return mean([1, 2, 3, 4, 5].map(measure));
}

/** Milliseconds of a round with n samples, and the part of the best rate that must be reached. */
const machines: Record<string, { ms: (samples: number) => (length: number) => number; part: number }> = {
  'a cheap draft': { ms: () => (length) => 10 + 0.2 * length, part: 0.95 },
  'a fair draft': { ms: () => (length) => 10 + length, part: 0.95 },
  'a dear draft': { ms: () => (length) => 10 + 3 * length, part: 0.95 },
  'a draft that must be started': {
    ms: () => (length) => (length === 0 ? 10 : 15 + 0.5 * length),
    part: 0.95,
  },
  'rows in tiles of 32': {
    ms: (samples) => (length) => 6 + 4 * Math.ceil((samples * (length + 1)) / 32) + 0.3 * length,
    part: 0.95,
  },
  'a step at 6': { ms: () => (length) => (length < 6 ? 10 : 25) + 0.3 * length, part: 0.95 },
  // The best length may lie behind a step that looks like a slope.
  'rows in powers of two': {
    ms: (samples) => (length) => 8 + 0.2 * samples * 2 ** Math.ceil(Math.log2(length + 1)) + 0.3 * length,
    part: 0.9,
  },
};

describe('autoController', () => {
  const grid = Object.entries(machines).flatMap(([name, machine]) =>
    [0.3, 0.6, 0.8, 0.9].map((acceptance) => ({ name, acceptance, ...machine })),
  );
  it.each(grid)('nears the best in 100 rounds: $name, α = $acceptance', ({ acceptance, ms, part }) => {
    for (const samples of [1, 8]) {
      const world = independent(() => acceptance, ms(samples));
      const gain = overSeeds((seed) => mean(new Machine(samples, seed).run(world, 200).gains.slice(100)));
      expect(gain).toBeGreaterThan(part);
      expect(gain).toBeLessThanOrEqual(1);
    }
  });

  it('loses little while it learns', () => {
    const gains = grid.map(({ acceptance, ms }) => {
      const world = independent(() => acceptance, ms(8));
      return mean(new Machine(8, 1).run(world, 100).gains);
    });
    expect(mean(gains)).toBeGreaterThan(0.92);
    expect(Math.min(...gains)).toBeGreaterThan(0.8);
  });

  it('begins a later run where the one before ended', () => {
    for (const acceptance of [0.3, 0.9]) {
      const machine = new Machine(8, 3);
      const world = independent(
        () => acceptance,
        (length) => 10 + length,
      );
      machine.run(world, 200);
      expect(mean(machine.run(world, 20).gains)).toBeGreaterThan(0.95);
    }
  });

  it('drafts long where drafts fail at once or are kept whole, as lookups are', () => {
    const world: World = {
      ms: (length) => 10 + 0.3 * length,
      kept: (random, length) => (random.uniform() < 0.2 ? length : 0),
      tokens: (length) => 1 + 0.2 * length,
    };
    expect(overSeeds((seed) => mean(new Machine(8, seed).run(world, 200).gains.slice(100)))).toBeGreaterThan(
      0.9,
    );
  });

  it('follows rounds that become slower, and back', () => {
    const world = independent(
      () => 0.6,
      (length, round) => (10 + length) * (1 + round / 150),
    );
    const gain = overSeeds((seed) => {
      const machine = new Machine(8, seed);
      machine.run(world, 300);
      return mean(machine.run(world, 300).gains);
    });
    expect(gain).toBeGreaterThan(0.95);
  });

  const started = (length: number): number => (length === 0 ? 10 : 15 + 0.5 * length);

  it('follows an acceptance that falls in mid-run', () => {
    const world = independent((round) => (round < 100 ? 0.9 : 0.3), started);
    const { lengths, gains } = new Machine(4, 1).run(world, 215);
    expect(mean(gains.slice(60, 100))).toBeGreaterThan(0.95);
    expect(mean(lengths.slice(60, 100))).toBeGreaterThan(8);
    expect(lengths.slice(175)).toEqual(Array(40).fill(0));
  });

  it('drafts again in a later run when acceptance is back', () => {
    for (const samples of [1, 8]) {
      const machine = new Machine(samples, 1);
      const run = (acceptance: number) =>
        machine.run(
          independent(() => acceptance, started),
          100,
          30,
        );
      run(0.9);
      expect(run(0.3).lengths.slice(60)).toEqual(Array(40).fill(0));
      expect(mean(run(0.9).gains.slice(50))).toBeGreaterThan(0.9);
    }
  });
});

describe('autoController where no draft pays', () => {
  it('decodes plainly', () => {
    const world = independent(
      () => 0.9,
      (length) => 10 + 12 * length,
    );
    const { lengths, gains } = new Machine(8, 1).run(world, 1000);
    expect(lengths.filter((length) => length > 0).length).toBeLessThan(40);
    expect(lengths.slice(20, 60)).toEqual(Array(40).fill(0));
    expect(mean(gains)).toBeGreaterThan(0.97);
  });

  /** Plain rounds between two spells of drafting, in units of 64. */
  const pauses = (acceptance: (round: number) => number, rounds: number): number[] => {
    const world = independent(acceptance, (length) => (length === 0 ? 10 : 16 + length));
    const { lengths } = new Machine(8, 1).run(world, rounds);
    const signs = lengths.map((length) => (length > 0 ? 'd' : 'p')).join('');
    const spells = signs.split(/d+/).slice(1, -1);
    return spells.map((spell) => Math.round(spell.length / 64));
  };

  it('tries again after 64 plain rounds, then after twice as many each time, up to 1024', () => {
    expect(pauses(() => 0.02, 4000)).toEqual([1, 2, 4, 8, 16, 16]);
  });

  it('tries again after 64 plain rounds once a draft paid', () => {
    expect(pauses((round) => (round > 900 && round < 1100 ? 0.9 : 0.02), 1500)).toEqual([1, 2, 4, 8, 1, 2]);
  });

  it('never drafts where a drafted token is taken to cost a plain round', () => {
    const world = independent(
      () => 1,
      () => 10,
    );
    for (const [draftCost, drafts] of [
      [1, false],
      [0.9, true],
    ] as const) {
      const machine = new Machine(8, 1, { draftCost });
      const lengths = [0, 1, 2].flatMap(() => machine.run(world, 1000).lengths);
      expect(lengths.some((length) => length > 0)).toBe(drafts);
    }
  });
});

describe('autoController, round by round', () => {
  const start = (options?: SpeculationCostsOptions) => {
    const known = new SpeculationCosts(options);
    const controller = autoController({ costs: known, samples: 2, limit });
    const after = (length: number, ms: number | undefined, accepted = [length, length]): number => {
      controller.observe({ length, accepted, ms });
      return controller.length;
    };
    return { known, controller, after };
  };
  /** Plain rounds until it drafts. */
  const warm = ({ after }: ReturnType<typeof start>) => [undefined, 10, 10, 10].map((ms) => after(0, ms));

  it('measures plain rounds, then drafts what the assumed cost lets expect', () => {
    expect(warm(start())).toEqual([0, 0, 0, 3]); // 2.176 tokens in 1.3 plain rounds
    expect(warm(start({ draftCost: 0.02 }))).toEqual([0, 0, 0, 4]);
    expect(warm(start({ draftCost: 0.6 }))).toEqual([0, 0, 0, 0]); // 1.6 tokens in 1.6
  });

  it('stays plain while no time is measured', () => {
    const { after, known } = start();
    for (let round = 0; round < 100; round++) expect(after(0, undefined)).toBe(0);
    expect(after(0, 10)).toBe(0);
    expect(known.report().batches).toEqual([{ samples: 2, ms: { 0: 10 } }]);
  });

  it('drops a draft that fails although its rounds are never measured', () => {
    const run = start();
    warm(run);
    for (let round = 0; round < 40; round++) run.after(run.controller.length, undefined, [0, 0]);
    expect(run.controller.length).toBe(0);
  });

  it('lives with plain rounds where it asked for drafts', () => {
    const run = start();
    warm(run);
    for (let round = 0; round < 200; round++) expect(run.after(0, 20)).toBe(3);
    expect(run.known.report().batches[0]?.ms[0]).toBeCloseTo(20, 5);
    expect(autoController({ costs: run.known, samples: 2, limit }).length).toBe(3);
  });

  it('lives with shorter drafts than it asked for', () => {
    const run = start();
    warm(run);
    for (let round = 0; round < 40; round++) run.after(2, 12, [2, 2]);
    expect(run.controller.length).toBeGreaterThan(2);
    for (let round = 0; round < 60; round++) run.after(Math.min(2, run.controller.length), 12, [0, 0]);
    expect(run.controller.length).toBe(0);
  });

  it('learns nothing from rounds without samples', () => {
    const run = start();
    warm(run);
    const before = run.known.report();
    for (let round = 0; round < 40; round++) expect(run.after(3, 100, [])).toBe(3);
    expect(run.known.report()).toEqual(before);
  });

  describe('after drafts that all failed', () => {
    const failed = () => {
      const run = start();
      warm(run);
      const nothing = { length: 8, accepted: [0, 0, 0, 0, 0, 0, 0, 0], ms: undefined };
      for (let round = 0; round < 40; round++) run.known.countAccepted(nothing);
      for (let round = 0; round < 8; round++) run.after(run.controller.length, 40, [0, 0]);
      expect(run.controller.length).toBe(0);
      return run;
    };

    it('believes a round of a new run', () => {
      const { known } = failed();
      const controller = autoController({ costs: known, samples: 2, limit });
      controller.observe({ length: 8, accepted: [8, 8], ms: undefined });
      expect(known.report().acceptance).toBeGreaterThan(0.45);
    });

    it('believes a round that follows many plain ones', () => {
      const { known, controller, after } = failed();
      while (controller.length === 0) after(0, 10);
      after(8, undefined);
      expect(known.report().acceptance).toBeGreaterThan(0.45);
    });
  });

  it('keeps to its limit', () => {
    const known = new SpeculationCosts();
    for (const most of [0, 1, 5]) {
      const controller = autoController({ costs: known, samples: 4, limit: most });
      for (let round = 0; round < 100; round++) {
        const { length } = controller;
        controller.observe({ length, accepted: Array<number>(4).fill(length), ms: 10 });
      }
      expect(controller.length).toBe(most);
    }
  });

  it('follows the number of running samples', () => {
    const known = new SpeculationCosts();
    const controller = autoController({ costs: known, samples: 8, limit });
    const observe = (running: number, ms: number): void => {
      const { length } = controller;
      controller.observe({ length, accepted: Array<number>(running).fill(0), ms: ms * (1 + length) });
    };
    for (let round = 0; round < 50; round++) observe(8, 20);
    expect(controller.length).toBe(0);
    observe(5, 20); // the same power of two
    for (const ms of [20, 20]) observe(2, ms); // these ran with the rows of before
    expect(known.report().batches[0]).toEqual({ samples: 2, ms: {} });
    for (const ms of [5, 5]) observe(2, ms);
    expect(known.report().batches.map(({ samples, ms }) => [samples, ms[0]])).toEqual([
      [2, 5],
      [8, 20],
    ]);
  });

  it('begins anew with each number of samples', () => {
    const run = start();
    warm(run);
    expect(run.after(0, 10)).toBe(3); // asked for in vain
    expect(run.after(0, 10, [0])).toBe(0);
    expect(run.after(0, 10, [0, 0])).toBe(3);
  });

  it('judges a new try only by the number of samples that it was for', () => {
    const run = start();
    warm(run);
    for (let round = 0; round < 8; round++) run.after(run.controller.length, 40, [0, 0]);
    while (run.controller.length === 0) run.after(0, 10);
    expect(run.known.batch(2).plainRounds).toBeGreaterThanOrEqual(64);
    expect(run.after(0, 10, [0])).toBe(0);
    expect(run.known.batch(1).patience).toBe(64);
  });

  it('refuses wrong options and reports', () => {
    const known = new SpeculationCosts();
    expect(() => autoController({ costs: known, samples: 0, limit })).toThrow(
      'samples is 0; expected an integer',
    );
    expect(() => autoController({ costs: known, samples: 1, limit: 33 })).toThrow(
      'limit is 33; expected an integer from 0 to 32.',
    );
    const controller = autoController({ costs: known, samples: 1, limit });
    expect(() => {
      controller.observe({ length: 2, accepted: [3], ms: 1 });
    }).toThrow(InvalidOptionError);
  });
});
