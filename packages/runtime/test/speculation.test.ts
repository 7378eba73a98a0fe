import { promptLookup, siblingLookup } from '@ensample/spec-decode';
import { expectNoErrors, expectNothingAllocated, testDevice } from '@ensample/testing';
import type { Device } from '@ensample/tensor';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Draft } from '../src/index.ts';
import {
  expectAsPlain,
  layouts,
  oracle,
  plainRuns,
  request,
  samplings,
  type Layout,
  type Sampling,
} from './speculating.ts';
import { tinyEngine, tinySource } from './tiny-engine.ts';

let device: Device;
const plain = plainRuns(() => device);
beforeAll(async () => {
  device = await testDevice();
});
afterEach(async () => {
  await expectNoErrors(device);
  expectNothingAllocated(device);
});
afterAll(() => device.destroy());

/** The target's first layers, so that it guesses well. */
const truncated = () => tinySource({ layers: '0s 1' });
const [siblings, own] = [() => siblingLookup({ shortest: 1 }), () => promptLookup({ shortest: 2 })];

interface Case {
  readonly layout: Layout;
  readonly sampling: Sampling;
  readonly draft: () => Draft | readonly Draft[];
  readonly draftLength: number | 'bass';
  readonly n: number;
}
const cases: Record<string, Case> = {
  'a draft model with windows': {
    ...{ layout: 'windows', sampling: 'drawn', draft: truncated, draftLength: 3, n: 4 },
  },
  'a draft model of another kind': {
    ...{ layout: 'full', sampling: 'drawn', draftLength: 1, n: 2 },
    draft: () => tinySource({ layers: '0', kvHeads: 4, seed: 6 }),
  },
  'a draft model that sees everything, as BASS has it': {
    ...{ layout: 'windows', sampling: 'greedy', draftLength: 'bass', n: 1 },
    draft: () => tinySource({ layers: '0 1' }),
  },
  'sibling lookup': { layout: 'windows', sampling: 'few', draft: siblings, draftLength: 3, n: 4 },
  'prompt lookup': { layout: 'windows', sampling: 'few', draft: own, draftLength: 7, n: 1 },
  'all together, with penalties, bias and filters': {
    ...{ layout: 'windows', sampling: 'shaped', draftLength: 3, n: 4 },
    draft: () => [siblings(), own(), truncated()],
  },
};

describe('tokens are those of plain decoding', () => {
  test('a strategy of our own, with samples that keep drafts of all lengths', async () => {
    const expected = await plain('windows', 'drawn', 8);
    const right = oracle(
      device,
      expected.map(({ tokens }) => tokens),
    );
    using engine = await tinyEngine(device, {}, { draft: right.strategy, kvType: 'f32' });
    await expectAsPlain(engine, { ...request, ...samplings.drawn, n: 8, draftLength: 7 }, expected);
    right.destroy();
  });

  test.each(Object.entries(cases))('%s', async (_, { layout, sampling, draft, draftLength, n }) => {
    const expected = await plain(layout, sampling, n);
    using engine = await tinyEngine(device, { layers: layouts[layout] }, { draft: draft(), kvType: 'f32' });
    const stats = await expectAsPlain(
      engine,
      { ...request, ...samplings[sampling], n, draftLength },
      expected,
    );
    for (const { name, accepted } of stats.speculation!.strategies) {
      expect(accepted, `guesses of ${name} that were right`).toBeGreaterThan(0);
    }
  });

  test('the target as its own draft: every draft is kept whole', async () => {
    const draft = tinySource({ layers: layouts.windows });
    using engine = await tinyEngine(device, {}, { draft, kvType: 'f32' });
    const options = { ...request, ...samplings.drawn, n: 4, draftLength: 7 };
    const stats = await expectAsPlain(engine, options, await plain('windows', 'drawn', 4));
    expect(stats.speculation).toMatchObject({ acceptance: 1, rounds: stats.steps, tokensPerRound: 8 });
  });
});
