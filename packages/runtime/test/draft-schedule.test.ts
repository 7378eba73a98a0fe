import type * as SpecDecode from '@ensample/spec-decode';
import { promptLookup, siblingLookup, type DraftLengthController } from '@ensample/spec-decode';
import { expectNoErrors, expectNothingAllocated, testDevice } from '@ensample/testing';
import type { Device } from '@ensample/tensor';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { expectAsPlain } from './speculating.ts';
import { prompt, tinyEngine, tinySource } from './tiny-engine.ts';

/** What `draftLength: 'auto'` means in this file: lengths in turn, or the product's own controller. */
const imposed = vi.hoisted(() => ({ lengths: undefined as readonly number[] | undefined }));
vi.mock('@ensample/spec-decode', async (importOriginal) => {
  const original = await importOriginal<typeof SpecDecode>();
  return {
    ...original,
    autoController: (options: Parameters<typeof original.autoController>[0]) =>
      imposed.lengths ? inTurn(imposed.lengths) : original.autoController(options),
    // As on a GPU, where a draft seems to cost nothing until it was measured.
    SpeculationCosts: class extends original.SpeculationCosts {
      constructor() {
        super({ draftCost: 0 });
      }
    },
  };
});

/** Each round asks for its length once. */
function inTurn(lengths: readonly number[]): DraftLengthController {
  let round = 0;
  return {
    get length() {
      return lengths[round++ % lengths.length] ?? 0;
    },
    observe: () => undefined,
  };
}

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterEach(async () => {
  imposed.lengths = undefined;
  await expectNoErrors(device);
  expectNothingAllocated(device);
});
afterAll(() => device.destroy());

const options = { prompt: prompt(40), n: 4, maxTokens: 80, ignoreEos: true, seed: 5, topP: 0.95 } as const;
const twin = () => tinySource();
const plainRounds = (count: number) => new Array<number>(count).fill(0);

describe('lengths that change', () => {
  test('plain rounds between drafts: the draft model catches up', async () => {
    using engine = await tinyEngine(device, {}, { draft: twin(), kvType: 'f32' });
    imposed.lengths = [0, 3, 0, 0, 5, 1, 0, 7, ...plainRounds(9), 2, 3];
    const stats = await expectAsPlain(engine, { ...options, draftLength: 'auto' });
    expect(stats.speculation?.acceptance).toBe(1); // the draft is the target: any other KV would show
    expect(stats.speculation!.rounds).toBeLessThan(stats.steps);
  });

  test('with lookups before a model that sees less, and penalties', async () => {
    const draft = [
      siblingLookup({ shortest: 1 }),
      promptLookup({ shortest: 2 }),
      tinySource({ layers: '0s 1' }),
    ];
    using engine = await tinyEngine(device, {}, { draft, kvType: 'f32' });
    imposed.lengths = [4, 0, 0, 7, 1, 0, 2];
    const penalties = { frequencyPenalty: -0.5, repetitionPenalty: 1.1, logitBias: { 7: 3 }, topK: 30 };
    const stats = await expectAsPlain(engine, { ...options, ...penalties, draftLength: 'auto' });
    for (const { accepted } of stats.speculation!.strategies) expect(accepted).toBeGreaterThan(0);
  });

  test('30 plain rounds can be caught up with', async () => {
    using engine = await tinyEngine(device, {}, { draft: twin(), kvType: 'f32' });
    imposed.lengths = [2, ...plainRounds(30), 3, 3];
    const stats = await expectAsPlain(engine, { ...options, n: 2, draftLength: 'auto' });
    expect(stats.speculation).toMatchObject({ acceptance: 1, draftLength: expect.closeTo(2.7, 0) });
    expect(stats.speculation!.rounds).toBeGreaterThan(3);
  });

  test('after 31 the draft model has fallen behind, and rounds stay plain', async () => {
    using engine = await tinyEngine(device, {}, { draft: twin(), kvType: 'f32' });
    imposed.lengths = [2, ...plainRounds(31), 3, 3];
    const stats = await expectAsPlain(engine, { ...options, n: 2, draftLength: 'auto' });
    expect(stats.speculation).toMatchObject({ rounds: 1, acceptance: 1 });
    expect(stats.steps).toBeGreaterThanOrEqual(78); // 3 tokens in a round, 77 plain ones
  });

  test('lookups go on without the model', async () => {
    const draft = [promptLookup({ shortest: 1 }), twin()];
    using engine = await tinyEngine(device, {}, { draft, kvType: 'f32' });
    imposed.lengths = [2, ...plainRounds(31), ...new Array<number>(60).fill(4)];
    const few = { logitBias: { 10: 50, 11: 50, 12: 50 } };
    const stats = await expectAsPlain(engine, { ...options, ...few, n: 2, draftLength: 'auto' });
    expect(stats.speculation!.strategies[1]!.accepted).toBeLessThanOrEqual(2 * 2);
    expect(stats.speculation!.strategies[0]!.accepted).toBeGreaterThan(4);
  });

  test('stop strings and stop tokens while lengths change', async () => {
    using engine = await tinyEngine(device, {}, { draft: twin(), kvType: 'f32' });
    const free = (await engine.generate({ ...options, draftLength: 0 })).samples;
    const stop = [0, 2].map((i) => free[i]!.text.slice(20 + 9 * i, 22 + 9 * i));
    const stopTokenIds = [free[3]!.tokens[15]!];
    imposed.lengths = [7, 0, 7, 0, 0, 4];
    const stats = await expectAsPlain(engine, { ...options, stop, stopTokenIds, draftLength: 'auto' });
    expect(stats.speculation?.acceptance).toBe(1);
  });
});

test("'auto' drafts where that promises something, and decodes plainly where it does not pay", async () => {
  const draft = [promptLookup(), tinySource({ layers: '0s 1 0s', seed: 9 })];
  using engine = await tinyEngine(device, {}, { draft, kvType: 'f32' });
  const stats = await expectAsPlain(engine, { ...options, temperature: 3, draftLength: 'auto' });
  expect(stats.speculation!.rounds).toBeGreaterThan(0);
  expect(stats.speculation!.rounds).toBeLessThan(stats.steps);
});
