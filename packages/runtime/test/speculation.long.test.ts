import { js22m } from '@ensample/model-js';
import type * as SpecDecode from '@ensample/spec-decode';
import { promptLookup, siblingLookup } from '@ensample/spec-decode';
import { supportedTiers, type Device } from '@ensample/tensor';
import {
  expectNoErrors,
  expectNothingAllocated,
  goldenTolerance,
  philoxReference,
  testAdapter,
  testDevice,
} from '@ensample/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { createEngine, type Draft, type Sample } from '../src/index.ts';
import {
  expectAsPlain,
  expectSameSamples,
  layouts,
  oracle,
  plainRuns,
  request,
  samplings,
  type Layout,
} from './speculating.ts';
import { tinyEngine, tinySource } from './tiny-engine.ts';

// As on a GPU: drafts seem to cost nothing until they were measured, so that 'auto' drafts on software drivers too.
vi.mock('@ensample/spec-decode', async (importOriginal) => {
  const original = await importOriginal<typeof SpecDecode>();
  class SpeculationCosts extends original.SpeculationCosts {
    constructor() {
      super({ draftCost: 0 });
    }
  }
  return { ...original, SpeculationCosts };
});

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

const strategies: Record<string, (layout: Layout) => Draft | readonly Draft[]> = {
  'the target itself': (layout) => tinySource({ layers: layouts[layout] }),
  'a draft model with windows': () => tinySource({ layers: '0s 1' }),
  'a draft model of another kind': () => tinySource({ layers: '0', kvHeads: 4, seed: 6 }),
  'prompt lookup': () => promptLookup({ shortest: 1 }),
  'sibling lookup': () => siblingLookup({ shortest: 1 }),
  'all of them': () => [
    siblingLookup({ shortest: 1 }),
    promptLookup({ shortest: 2 }),
    tinySource({ layers: '0s 1' }),
  ],
};
/** Longer ones are among those of imposed acceptance. */
const lengths = [1, 3, 'auto'] as const;

/** One sample has no siblings; only with few tokens do n-grams come again. */
const batches = [
  ['drawn', 8],
  ['few', 4],
  ['greedy', 1],
] as const;

describe.each(['full', 'windows'] as const)('layers %s', (layout) => {
  describe.each(Object.entries(strategies))('%s', (_, draft) => {
    test.each(lengths)('drafts of %s', { timeout: 600_000 }, async (draftLength) => {
      const layers = layouts[layout];
      using engine = await tinyEngine(device, { layers }, { draft: draft(layout), kvType: 'f32' });
      for (const [sampling, n] of batches) {
        const options = { ...request, ...samplings[sampling], n, draftLength, logprobs: true };
        const { samples, stats } = await engine.generate(options);
        expectSameSamples(samples, await plain(layout, sampling, n));
        if (draftLength === 'auto') continue; // what it drafts depends on the times that it measures
        expect(stats.speculation!.rounds).toBeGreaterThan(0);
        if (sampling === 'few') expect(stats.acceptedDraftTokens).toBeGreaterThan(0);
      }
    });
  });

  test.each([1, 3, 7, 32, 'bass', 'auto'] as const)(
    'imposed acceptance, drafts of %s',
    async (draftLength) => {
      const expected = await plain(layout, 'drawn', 8);
      const texts = expected.map(({ tokens }) => tokens);
      const right = oracle(device, texts);
      using engine = await tinyEngine(
        device,
        { layers: layouts[layout] },
        { draft: right.strategy, kvType: 'f32' },
      );
      await expectAsPlain(engine, { ...request, ...samplings.drawn, n: 8, draftLength }, expected);
      right.destroy();
    },
  );
});

/** Where two runs of the same options first differ, both must have had nearly the same score. */
function expectNearTies(
  drafted: readonly Sample[],
  plainly: readonly Sample[],
  { temperature, seed, start }: TieOptions,
) {
  drafted.forEach((sample, i) => {
    const other = plainly[i]!;
    const at = sample.tokens.findIndex((token, j) => token !== other.tokens[j]);
    if (at < 0) return;
    const score = ({ tokens, logprobs }: Sample) =>
      logprobs![at]! / temperature + gumbel(tokens[at]!, start + at, seed + sample.index);
    expect(Math.abs(score(sample) - score(other))).toBeLessThan((2 * goldenTolerance.f16.tie) / temperature);
  });
}

interface TieOptions {
  readonly temperature: number;
  readonly seed: number;
  /** Position of the first token. */
  readonly start: number;
}

function gumbel(token: number, position: number, seed: number): number {
  const bits = philoxReference([token >> 2, position, 0, 0], [seed, 0])[token & 3] ?? 0;
  return -Math.log(-Math.log1p(-(bits + 0.5) / 2 ** 32));
}

const f16 = supportedTiers(await testAdapter()).includes('f16');

describe('js-22m with js-1m-draft and lookups', () => {
  const options = {
    n: 4,
    maxTokens: 48,
    seed: 3,
    topP: 1,
    temperature: 0.8,
    logprobs: true,
    ignoreEos: true,
  } as const;
  const prompt = 'export function clamp(value, min, max) {\n';

  test('f32: the samples of plain decoding', { timeout: 600_000 }, async () => {
    using engine = await createEngine({ model: js22m(), device, kvType: 'f32' });
    const plainly = await engine.generate({ ...options, prompt, draftLength: 0 });
    const { samples, stats } = await engine.generate({ ...options, prompt, draftLength: 4 });
    expectSameSamples(samples, plainly.samples);
    expect(stats.acceptedDraftTokens).toBeGreaterThan(4 * 48 * 0.2);
  });

  test.skipIf(!f16)('f16 (needs shader-f16): what differs is a near tie', { timeout: 600_000 }, async () => {
    const own = await testDevice({ tier: 'f16' });
    const fewer = { ...options, maxTokens: 16, prompt }; // this tier's kernels are slow on a CPU
    {
      using engine = await createEngine({ model: js22m(), device: own, kvType: 'f16' });
      const plainly = await engine.generate({ ...fewer, draftLength: 0 });
      const { samples, stats } = await engine.generate({ ...fewer, draftLength: 4 });
      expectNearTies(samples, plainly.samples, { ...options, start: stats.promptTokens });
      expect(stats.acceptedDraftTokens).toBeGreaterThan(4 * 16 * 0.2);
    }
    expectNothingAllocated(own);
    own.destroy();
  });
});
