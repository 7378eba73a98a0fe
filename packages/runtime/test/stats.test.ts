import { expectNoErrors, expectNothingAllocated, testDevice } from '@ensample/testing';
import type { Device } from '@ensample/tensor';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { expectCounts, oracle, rightGuesses } from './speculating.ts';
import { prompt, tinyEngine } from './tiny-engine.ts';

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterEach(async () => {
  await expectNoErrors(device);
  expectNothingAllocated(device);
});
afterAll(() => device.destroy());

/** Bytes of a token's keys and values in one layer of 2 heads of 32: f32 on every tier that testDevice opens. */
const tokenBytes = 2 * 2 * 32 * 4;

test('one layer, worked out by hand', async () => {
  using engine = await tinyEngine(device, { layers: '0' }, { kvType: 'f32' });
  // 32 tokens of prompt are one page; the 33rd is the first step's input, so each of 4 leaves is a page too.
  const { stats, samples } = await engine.generate({
    prompt: prompt(33),
    n: 4,
    maxTokens: 3,
    seed: 8,
    ignoreEos: true,
  });
  expect(samples.map(({ tokens }) => tokens.length)).toEqual([3, 3, 3, 3]);
  expect(stats).toMatchObject({
    promptTokens: 33,
    generatedTokens: 12,
    seed: 8,
    steps: 3,
    kvBytes: 5 * 32 * tokenBytes,
    kvBytesUnshared: 4 * 2 * 32 * tokenBytes,
    // 4 rows × 2 query heads per key/value head are one tile: the prompt is read once, each leaf's page once.
    kvReadBytesPerStep: (32 + 4 * 32) * tokenBytes,
    kvReadBytesPerStepUnshared: (4 * 32 + 4 * 32) * tokenBytes,
  });
  expect(stats.tokensPerSecond).toBeCloseTo((1000 * 12) / stats.decodeMs, 6);
});

test('a long prompt is stored and read once for all samples', async () => {
  using engine = await tinyEngine(device, { layers: '0 1s 0 1s' });
  const options = { n: 8, maxTokens: 10, temperature: 1, stopTokenIds: [4, 5, 6] };
  using session = await engine.prefill(prompt(400));
  const { stats, samples } = await session.generate(options);
  const stopped = samples.filter(({ finishReason }) => finishReason === 'stop').length;
  const drawn = samples.reduce((sum, { tokens }) => sum + tokens.length, stopped);
  expect(stats.generatedTokens).toBe(drawn);
  expect(stats.kvBytes).toBeLessThan(stats.kvBytesUnshared / 3);
  expect(stats.kvReadBytesPerStep).toBeLessThan(stats.kvReadBytesPerStepUnshared / 3);
  expect(stats.prefillMs).toBeGreaterThan(0);
  expect((await session.generate(options)).stats.prefillMs).toBe(0); // its KV is there already
  expect(stats.steps).toBeLessThanOrEqual(10);
});

test('without sharing there is nothing to save', async () => {
  using engine = await tinyEngine(device);
  const { stats } = await engine.generate({ prompt: prompt(100), maxTokens: 5 });
  expect(stats.kvReadBytesPerStep).toBe(stats.kvReadBytesPerStepUnshared);
});

/** What {@link oracle} makes of a sample of `tokens` tokens after a prompt of `promptTokens`. */
function imposed(sample: number, promptTokens: number, tokens: number, draftLength: number) {
  const counts = { rounds: 0, accepted: 0, guesses: 0 };
  for (let drawn = 0; drawn < tokens; counts.rounds++) {
    const right = rightGuesses(promptTokens - 1 + drawn, sample);
    const places = Math.min(draftLength, tokens - drawn);
    const accepted = Math.min(right, places);
    counts.accepted += accepted;
    counts.guesses += Math.min(right + 1, places);
    drawn += Math.min(accepted + 1, tokens - drawn);
  }
  return counts;
}

test.each([1, 4, 7])('counts of drafts of %i, worked out by hand', async (draftLength) => {
  const [n, maxTokens] = [5, 40];
  const options = { prompt: prompt(30), n, maxTokens, seed: 8, ignoreEos: true, draftLength };
  using plain = await tinyEngine(device, { layers: '0' }, { draft: 'none' });
  const texts = (await plain.generate({ ...options, draftLength: 0 })).samples.map(({ tokens }) => tokens);
  const right = oracle(device, texts);
  using engine = await tinyEngine(device, { layers: '0' }, { draft: right.strategy });
  const { stats } = await engine.generate(options);
  right.destroy();
  const each = texts.map((_, i) => imposed(i, 30, maxTokens, draftLength));
  const sum = (key: keyof (typeof each)[number]) => each.reduce((total, counts) => total + counts[key], 0);
  expectCounts(stats);
  expect(stats).toMatchObject({
    acceptedDraftTokens: sum('accepted'),
    rejectedDraftTokens: sum('guesses') - sum('accepted'),
    speculation: {
      rounds: stats.steps,
      draftLength,
      tokensPerRound: (n * maxTokens) / sum('rounds'),
      acceptance: sum('accepted') / sum('guesses'),
    },
  });
  // The longest sample's rounds, and one that was under way when it ended.
  const longest = Math.max(...each.map(({ rounds }) => rounds));
  expect([longest, longest + 1]).toContain(stats.steps);
});
