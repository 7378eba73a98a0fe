import { KvCache, prefillRows } from '@ensample/kv-cache';
import { attentionPreset, longestPrompt, mostSamples, planMemory } from '@ensample/mixattn-model';
import { expectNoErrors, expectNothingAllocated, testDevice, tinyModel } from '@ensample/testing';
import type { Device } from '@ensample/tensor';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { prompt, tinyEngine, tinySource } from './tiny-engine.ts';

const maps = {
  'no reuse': '0 1 2 3',
  windows: '0s 0s 2s 2s',
  'MA-Offset': '0s 1 0s 1',
  'MA-Pairs': '0 1s 1s 0',
};
const runs = [
  { n: 1, promptTokens: 1, maxTokens: 1 },
  { n: 3, promptTokens: 70, maxTokens: 20 },
  { n: 8, promptTokens: 300, maxTokens: 100 },
  { n: 2, promptTokens: 31, maxTokens: 481 },
];

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterAll(async () => {
  await expectNoErrors(device);
  expectNothingAllocated(device);
  device.destroy();
});

/** What the plan needs to know of the device. */
function platform() {
  const { tier, maxBindingBytes } = device;
  const { heads, headDim } = tinyModel().config;
  const rows = prefillRows(tier, heads * headDim);
  return { kvType: tier.kv, prefillRows: rows, maxBindingBytes, weights: 'f32' } as const;
}

describe.each(Object.entries(maps))('planMemory, %s', (_name, layers) => {
  test('weights and KV are what is then allocated, to the byte', async () => {
    const { config } = tinyModel({ layers });
    const before = device.memory.bytes;
    const loaded = await tinySource({ layers }).load(device);
    const weights = device.memory.bytes - before;
    loaded.model.destroy();
    for (const [i, run] of runs.entries()) {
      // Drafts need room beyond the samples' tokens; without them there are plain steps in flight.
      const drafting =
        i % 2 === 0 ? ({ draft: 'auto' } as const) : ({ draft: 'none', draftLength: 0 } as const);
      const engine = await tinyEngine(device, { layers }, { draft: drafting.draft });
      const options = { prompt: prompt(run.promptTokens), n: run.n, maxTokens: run.maxTokens };
      for await (const _ of engine.stream(options)) break;
      const draftLength = 'draftLength' in drafting ? { draftLength: 0 } : {};
      const plan = planMemory(config, { ...platform(), ...run, ...draftLength });
      expect(plan).toEqual({
        weights,
        kv: engine.kvMemory.allocated,
        total: weights + engine.kvMemory.allocated,
      });
      engine.dispose();
    }
  });
});

test('how many samples, and how long a prompt, fit in so many bytes', () => {
  const config = { ...tinyModel().config, layers: attentionPreset('MA-Offset', { layers: 12, window: 16 }) };
  const run = { promptTokens: 200, maxTokens: 40 };
  const bytes = planMemory(config, { ...run, n: 19 }).total;
  expect(mostSamples(config, bytes, run)).toBe(19);
  expect(mostSamples(config, bytes - 1, run)).toBe(18);
  expect(mostSamples(config, 1000, run)).toBe(0);
  const longest = longestPrompt(config, bytes, { n: 19, maxTokens: 40 });
  expect(planMemory(config, { n: 19, promptTokens: longest, maxTokens: 40 }).total).toBeLessThanOrEqual(
    bytes,
  );
  expect(planMemory(config, { n: 19, promptTokens: longest + 1, maxTokens: 40 }).total).toBeGreaterThan(
    bytes,
  );
});

test('numbers out of their range are refused', () => {
  const { config } = tinyModel();
  expect(() => planMemory(config, { n: 0, promptTokens: 5, maxTokens: 5 })).toThrow('n is 0');
  expect(() => planMemory(config, { promptTokens: 500, maxTokens: 13 })).toThrow(
    'maxTokens is 13: it must be an integer from 1 up to 12',
  );
  expect(() => planMemory(config, { promptTokens: 5, maxTokens: 5, draftLength: 33 })).toThrow(
    'draftLength is 33',
  );
});

test('an engine refuses what goes beyond memoryBytes before it takes anything, and says what would fit', async () => {
  const { config } = tinyModel();
  const run = { promptTokens: 100, maxTokens: 60 };
  const unlimited = await tinyEngine(device);
  const working = device.memory.bytes;
  unlimited.dispose();
  const kv = (n: number) => planMemory(config, { ...platform(), ...run, n }).kv;
  const engine = await tinyEngine(device, {}, { memoryBytes: working + kv(5) });
  const options = { prompt: prompt(run.promptTokens), maxTokens: run.maxTokens };
  await expect(engine.generate({ ...options, n: 6 })).rejects.toThrow(
    /6 samples of 60 tokens .* 5 samples, or \d+ tokens each, would fit/,
  );
  expect(device.memory.bytes).toBe(working);
  const refusal: unknown = await engine.generate({ ...options, n: 6 }).catch((error: unknown) => error);
  const advised = Number(/(\d+) tokens each/.exec((refusal as Error).message)?.[1]);
  expect(advised).toBeLessThan(run.maxTokens);
  expect((await engine.generate({ ...options, n: 6, maxTokens: advised })).samples).toHaveLength(6);
  engine.dispose();
  const another = await tinyEngine(device, {}, { memoryBytes: working + kv(5) });
  expect((await another.generate({ ...options, n: 5 })).samples).toHaveLength(5);
  another.dispose();
  const none = await tinyEngine(device, {}, { memoryBytes: working + 100 });
  await expect(none.generate({ ...options, n: 2 })).rejects.toThrow('not even a token would fit');
  none.dispose();
  await expect(tinyEngine(device, {}, { memoryBytes: -1 })).rejects.toThrow('memoryBytes is -1');
});

test('samples of a session have the slab of their prompt, as far as memory lasts', async () => {
  const join = vi.spyOn(KvCache.prototype, 'join');
  /** Slabs after a run that needed more pages than the prompt had; and its tokens. */
  const runOf = async (memoryBytes?: number) => {
    const engine = await tinyEngine(device, {}, memoryBytes ? { memoryBytes } : {});
    const session = await engine.prefill(prompt(60));
    const { samples } = await session.generate({ n: 4, maxTokens: 60, seed: 3, ignoreEos: true });
    const cache = join.mock.contexts.at(-1) as KvCache;
    const { slabs } = cache;
    const used = device.memory.bytes;
    engine.dispose();
    return { slabs, used, tokens: samples.map(({ tokens }) => tokens) };
  };
  const joined = await runOf();
  expect(joined.slabs).toBe(1);
  const apart = await runOf(joined.used + 1000);
  expect(apart.slabs).toBeGreaterThan(1);
  expect(apart.tokens).toEqual(joined.tokens);
  join.mockRestore();
});
