import type { AcceptanceRule } from '@ensample/spec-decode';
import type { Device } from '@ensample/tensor';
import { expectNoErrors, expectNothingAllocated, testDevice } from '@ensample/testing';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { draw, filters, mistaken, prompt, strategies, target } from './guessing.ts';
import {
  clearlyWrong,
  filtered,
  lawsOf,
  least,
  textChance,
  tripleChance,
  tripleLaw,
  type TripleLaw,
} from './laws.ts';

let device: Device;
let law: TripleLaw;
beforeAll(async () => {
  device = await testDevice();
  law = await tripleLaw(device, target, prompt, filters);
});
afterEach(() => expectNoErrors(device));
afterAll(() => {
  expectNothingAllocated(device);
  device.destroy();
});

test.each(Object.entries(strategies))(
  '%s, draft lengths 1 and 3: the first three tokens have the law of the target',
  { timeout: 120_000 },
  async (_name, guessing) => {
    const { texts, stats } = await draw(device, guessing, [1, 3], { n: 192, maxTokens: 3 });
    expect(tripleChance(texts, law)).toBeGreaterThan(least);
    for (const { speculation } of stats) {
      expect(speculation!.acceptance).toBeGreaterThan(0.05);
      expect(speculation!.acceptance).toBeLessThan(0.6);
      for (const { accepted, rejected } of speculation!.strategies)
        expect(accepted + rejected).toBeGreaterThan(10);
    }
  },
);

// Rules that err in one place only must not pass for the right one.
test.each<[string, AcceptanceRule]>([
  ['keeps guesses too often', mistaken('keeps too often', 'coin * q <', 'coin * q < 2.0 *')],
  [
    'draws from the whole law after a miss',
    mistaken('draws anew', '- select(certain, laws[own + i], drawn)', ''),
  ],
])('a rule that %s is found out', async (_name, acceptance) => {
  const options = { n: 256, maxTokens: 3, acceptance };
  const { texts } = await draw(device, strategies['a draft model']!, [2, 3], options);
  expect(tripleChance(texts, law)).toBeLessThan(clearlyWrong);
});

test('every token of long texts has the law of the target', async () => {
  const { texts, stats } = await draw(device, strategies['all of them']!, [4], { n: 32, maxTokens: 24 });
  const laws = await lawsOf(device, target, prompt, texts, (logits) => filtered(logits, filters));
  expect(stats[0]!.steps).toBeGreaterThan(10);
  expect(textChance(texts, laws)).toBeGreaterThan(least);
});

test.each(['a draft model', 'prompt lookup'])(
  '%s: a seed gives the same text again, whatever else is in the batch',
  async (name) => {
    const options = { maxTokens: 16, seed: 77 };
    const { texts } = await draw(device, strategies[name]!, [3], { ...options, n: 5 });
    const alone = await draw(device, strategies[name]!, [3, 3], { ...options, n: 1, seed: 79 });
    expect(alone.texts).toEqual([texts[2], texts[2]]);
  },
);

test('all strategies together: a run repeats', async () => {
  // What siblings have said decides about guesses, so the batch must be the same too.
  const options = { maxTokens: 16, seed: 77, n: 5 };
  const { texts } = await draw(device, strategies['all of them']!, [3, 3], options);
  expect(texts.slice(5)).toEqual(texts.slice(0, 5));
});
