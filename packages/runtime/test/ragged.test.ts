import { promptLookup, siblingLookup } from '@ensample/spec-decode';
import type { Device } from '@ensample/tensor';
import { expectNoErrors, expectNothingAllocated, seeded, testDevice } from '@ensample/testing';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { prompt } from './tiny-engine.ts';
import { randomRun, Torture, type TortureOptions, type TortureRun } from './torture.ts';

vi.mock('@ensample/kv-cache', async (real) => (await import('./imposed.ts')).smallPages(await real()));
vi.mock('@ensample/spec-decode', async (real) => (await import('./imposed.ts')).listedLengths(await real()));

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterEach(() => expectNoErrors(device));
afterAll(() => {
  expectNothingAllocated(device);
  device.destroy();
});

const lookups = [siblingLookup({ shortest: 1 }), promptLookup({ shortest: 1 })];
const stopTokenIds = [7, 9];
// With these seeds the first sample keeps all guesses, the second none, the others a share of them.
const cases: Record<string, [TortureOptions, TortureRun[]]> = {
  'full attention, pages of 4': [
    { target: { layers: '0 1' }, draft: { layers: '0', seed: 5 }, pageTokens: 4 },
    [
      { seed: 131, n: 4, maxTokens: 30, draftLength: 5 },
      { seed: 289, n: 5, maxTokens: 40, draftLength: 'bass', stopTokenIds },
    ],
  ],
  'windows of 16 and shared KV, pages of 8, the draft with a window': [
    { target: { layers: '0s 1 0s 1' }, draft: { layers: '0s', seed: 5 }, pageTokens: 8 },
    [
      { seed: 131, n: 4, maxTokens: 36, draftLength: [3, 0, 1, 0, 0, 8] },
      { seed: 289, n: 5, maxTokens: 40, draftLength: 3, stopTokenIds },
    ],
  ],
  'a window of 5 on pages of 32, lookups before the draft': [
    {
      target: { layers: '0s 1', window: 5 },
      draft: { layers: '0s', window: 5, seed: 5 },
      ...{ pageTokens: 32, lookups },
    },
    [
      { seed: 131, n: 3, maxTokens: 50, draftLength: [16, 1] },
      { seed: 289, n: 5, maxTokens: 80, draftLength: 4, stopTokenIds },
    ],
  ],
};

test.each(Object.entries(cases))('%s', { timeout: 120_000 }, async (_name, [options, runs]) => {
  using torture = await Torture.start(device, options);
  const session = await torture.engine.prefill(prompt(40));
  for (const run of runs) {
    const { rounds, kept, missed } = await torture.run(session, run);
    expect(rounds).toBeGreaterThan(10);
    expect([kept > 20, missed > 20]).toEqual([true, true]);
  }
  session.dispose();
  expect(torture.used).toEqual([0, 0]);
});

test('prompts that branch: samples of every level', async () => {
  const models = { target: { layers: '0s 1' }, draft: { layers: '0s', seed: 5 } };
  using torture = await Torture.start(device, { ...models, pageTokens: 8 });
  const root = await torture.engine.prefill(prompt(21));
  const [branch, other] = root.fork(2);
  await branch!.append(prompt(13, 4));
  const [twig, last] = branch!.fork(2);
  await twig!.append(prompt(6, 5));
  await last!.append(prompt(1, 6));
  const levels = [twig, root, last, branch, other, twig];
  for (const [i, session] of levels.entries())
    await torture.run(session!, { seed: 131 + 50 * i, n: 3, maxTokens: 16, draftLength: 3 });
  for (const session of [root, twig, other, branch, last]) session!.dispose();
  expect(torture.used).toEqual([0, 0]);
});

test('samples that stop give their pages back while the others go on', async () => {
  const models = { target: { layers: '0s 1' }, draft: { layers: '0s', seed: 5 } };
  using torture = await Torture.start(device, { ...models, pageTokens: 8 });
  const session = await torture.engine.prefill(prompt(10));
  const run = { seed: 700, n: 8, maxTokens: 70, draftLength: 2, stopTokenIds };
  const used = await torture.usedOver(session, run);
  for (const cache of [0, 1]) {
    const bytes = used.map((all) => all[cache]!);
    expect(bytes.at(-1)).toBeLessThan(Math.max(...bytes) / 3);
  }
  session.dispose();
});

test('a session again and again: pages come back in any order and are taken again', async () => {
  const random = seeded(8);
  const models = { target: { layers: '0s 1' }, draft: { layers: '0s', seed: 5 } };
  using torture = await Torture.start(device, { ...models, pageTokens: 8 });
  const session = await torture.engine.prefill(prompt(40));
  for (let i = 0; i < 6; i++) {
    const run = { ...randomRun(random, 6, 40), maxTokens: 8 + random.integer(40) };
    const passing = await torture.engine.prefill(prompt(8 + random.integer(60), i));
    if (random.integer(3) === 0) await torture.leave(session, run, 1 + random.integer(40));
    else await torture.run(session, run);
    passing.dispose();
  }
  session.dispose();
  expect(torture.used).toEqual([0, 0]);
});
