import type { Device } from '@ensample/tensor';
import { KvCache, type KvLayout, type Sequence } from '@ensample/kv-cache';
import { expectNothingAllocated, seeded, testDevice } from '@ensample/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { Attention, planStep, type AttentionOptions } from '../src/index.ts';

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterAll(() => device.destroy());
afterEach(() => expectNothingAllocated(device));

/** Two layers read the keys and values of all positions, one those of a window of 16. */
const layout: KvLayout = {
  layers: [
    { kind: 'full', kvSource: 0 },
    { kind: 'full', kvSource: 0 },
    { kind: 'sliding', window: 16, kvSource: 2 },
  ],
  kvHeads: 2,
  headDim: 32,
};

function grow(sequence: Sequence, tokens: number): Sequence {
  sequence.reserve(tokens);
  sequence.commit(tokens);
  return sequence;
}

/** A prompt of 40 tokens and n samples of it, each with a page of its own. */
function samples(cache: KvCache, n: number): Sequence[] {
  cache.ensure([100, 100]);
  const prompt = grow(cache.sequence(), 40);
  const all = Array.from({ length: n }, (_, i) => (i < n - 1 ? prompt.fork() : prompt));
  for (const sequence of all) sequence.reserve(1);
  return all;
}

const tile = { chunk: 128, tiles: [{ vectors: 16 }] } as const;

describe('bytes read', () => {
  // A token has 2 · 2 heads · 32 · 4 bytes a layer. Positions 24 to 39 of the prompt are in the window's pages.
  // Each row has 2 query vectors per key/value head, so 8 rows fill a tile.
  test.each([
    { n: 1, planned: 512 * (2 * 44 + 20), perSequence: 512 * (2 * 44 + 20) },
    { n: 2, planned: 512 * (2 * (40 + 8) + 16 + 8), perSequence: 512 * (2 * (80 + 8) + 32 + 8) },
    { n: 16, planned: 512 * (2 * (80 + 64) + 32 + 64), perSequence: 512 * (2 * (640 + 64) + 256 + 64) },
  ])('n = $n', ({ n, planned, perSequence }) => {
    const cache = new KvCache(device, layout, { pageTokens: 4, dtype: 'f32' });
    const step = samples(cache, n).map((sequence) => ({ sequence, rows: 1 }));
    expect(planStep(cache, 2, { ...tile, reading: 'shared' }, step).reads).toEqual({ planned, perSequence });
    const alone = planStep(cache, 2, { ...tile, reading: 'per-sequence' }, step).reads;
    expect(alone).toEqual({ planned: perSequence, perSequence });
    const halved = new KvCache(device, layout, { pageTokens: 4, dtype: 'f16' });
    const same = samples(halved, n).map((sequence) => ({ sequence, rows: 1 }));
    expect(planStep(halved, 2, { ...tile, reading: 'shared' }, same).reads.planned).toBe(planned / 2);
    cache.destroy();
    halved.destroy();
  });

  test('a sequence of many rows reads its path once per tile', () => {
    const cache = new KvCache(device, layout, { pageTokens: 4, dtype: 'f32' });
    cache.ensure([100, 100]);
    const sequence = cache.sequence();
    sequence.reserve(20);
    const { reads } = planStep(cache, 2, { ...tile, reading: 'shared' }, [{ sequence, rows: 20 }]);
    expect(reads).toEqual({ planned: 512 * 3 * 3 * 20, perSequence: 512 * 3 * 3 * 20 });
    cache.destroy();
  });
});

test('what is complete is cut into the tasks that suit its tile, what grows into chunks', () => {
  const layers = [{ kind: 'full', kvSource: 0 }] as const;
  const cache = new KvCache(device, { layers, kvHeads: 2, headDim: 32 }, { pageTokens: 4, dtype: 'f32' });
  cache.ensure([400]);
  const tiles = [
    { vectors: 2, tasks: 32 },
    { vectors: 16, tasks: 8 },
  ];
  const prompt = grow(cache.sequence(), 800);
  /** Partial results of `n` samples: parts of the prompt for all of them, and each sample's own. */
  const slots = (n: number, reading: 'shared' | 'per-sequence') => {
    const leaves = Array.from({ length: n }, () => prompt.fork());
    for (const leaf of leaves) leaf.reserve(1);
    const plan = planStep(
      cache,
      2,
      { chunk: 16, tiles, few: 2, reading },
      leaves.map((sequence) => ({ sequence, rows: 1 })),
    );
    for (const leaf of leaves) leaf.release();
    return plan.slots / n - 1;
  };
  expect(slots(1, 'shared')).toBe(Math.ceil(800 / 28)); // 32 tasks would be of 25 keys: whole pages
  expect(slots(4, 'shared')).toBe(8);
  expect(slots(16, 'shared')).toBe(4); // two tiles
  expect(slots(16, 'per-sequence')).toBe(Math.ceil(800 / 28));
  prompt.release();
  cache.destroy();
});

describe('uploads', () => {
  test('nothing that did not change, and never more than one write', () => {
    const cache = new KvCache(device, layout, { pageTokens: 4, draftLimit: 2, dtype: 'f32' });
    const attention = new Attention(cache, { heads: 4 });
    const all = samples(cache, 5);
    const write = vi.spyOn(device.gpu.queue, 'writeBuffer');
    const random = seeded(2);
    let unchanged = 0;
    for (let i = 0; i < 60; i++) {
      const changed = all.map((sequence) => sequence.reserve(1)).includes(true);
      write.mockClear();
      attention.update(all.map((sequence) => ({ sequence, rows: 1 })));
      const writes = write.mock.calls.length;
      expect(writes).toBeLessThanOrEqual(1);
      if (changed) expect(writes).toBe(1);
      if (writes === 0) unchanged++;
      attention.update(all.map((sequence) => ({ sequence, rows: 1 })));
      expect(write.mock.calls.length).toBe(writes);
      for (const sequence of all) sequence.commit(i < 30 ? 1 : random.integer(2));
    }
    expect(unchanged).toBeGreaterThan(20);
    write.mockRestore();
    attention.destroy();
    cache.destroy();
  });

  test('what is on the device is the plan, however it changed', async () => {
    const cache = new KvCache(device, layout, { pageTokens: 4, draftLimit: 2, dtype: 'f32' });
    const attention = new Attention(cache, { heads: 4 });
    const all = samples(cache, 6);
    const random = seeded(4);
    for (let i = 0; i < 25; i++) {
      const step = all
        .filter((_, s) => s === i % 6 || random.integer(2) === 0)
        .map((sequence) => ({ sequence, rows: 1 + random.integer(3) }));
      for (const { sequence, rows } of step) sequence.reserve(rows);
      attention.update(step);
      const { words } = planStep(cache, 2, { ...tile, reading: 'shared' }, step);
      const stored = await device.read(attention.plan);
      expect(stored.subarray(0, words.length)).toEqual(words);
      for (const { sequence, rows } of step) sequence.commit(rows);
    }
    attention.destroy();
    cache.destroy();
  });

  test('larger buffers change the version, so that recordings are made anew', () => {
    const cache = new KvCache(device, layout, { pageTokens: 4, dtype: 'f32' });
    const attention = new Attention(cache, { heads: 4, chunk: 4 });
    const [first, ...rest] = samples(cache, 30);
    const update = (sequences: readonly Sequence[]) => {
      const { version } = attention;
      attention.update(sequences.map((sequence) => ({ sequence, rows: 1 })));
      return attention.version !== version;
    };
    expect([
      update([first!]),
      update([first!, ...rest]),
      update([first!, ...rest]),
      update([first!]),
    ]).toEqual([false, true, false, false]);
    cache.ensure([10_000, 1]);
    expect(attention.version).toBeGreaterThan(0);
    attention.destroy();
    cache.destroy();
  });
});

test('partial results stay within 32 MiB: chunks grow instead', () => {
  const layers = [{ kind: 'full', kvSource: 0 }] as const;
  const cache = new KvCache(device, { layers, kvHeads: 1, headDim: 256 }, { dtype: 'f32' });
  const attention = new Attention(cache, { heads: 64 });
  cache.ensure([70]);
  const sequence = grow(cache.sequence(), 2048);
  sequence.reserve(64);
  // 17 parts of 128 keys would need 1088 rows of partial results, 9 of 256 still 576: more than 32 MiB.
  const rowBytes = 64 * 257 * 4;
  expect(9 * 64 * rowBytes).toBeGreaterThan(32 * 2 ** 20);
  attention.update([{ sequence, rows: 64 }]);
  const partials = device.memory.bytes - attention.plan.byteLength - cache.memory.allocated;
  expect(partials).toBeLessThanOrEqual(32 * 2 ** 20);
  expect(partials).toBeGreaterThanOrEqual(5 * 64 * rowBytes);
  attention.destroy();
  cache.destroy();
});

test('a step of more query vectors than a plan can number is refused', () => {
  const layers = [{ kind: 'full', kvSource: 0 }] as const;
  const cache = new KvCache(device, { layers, kvHeads: 1, headDim: 16 }, { pageTokens: 256, dtype: 'f32' });
  cache.ensure([40]);
  const sequence = cache.sequence();
  sequence.reserve(8193);
  const plan = (rows: number) =>
    planStep(cache, 8, { ...tile, chunk: 256, reading: 'shared' }, [{ sequence, rows }]);
  expect(() => plan(8193)).toThrow('at most 8192 rows fit, prefill in shorter chunks');
  const { words } = plan(8192);
  expect(words.at(-2)! >>> 16).toBe(65536 - 16);
  expect(words.at(-1)).toBe((16 << 16) | 32);
  cache.destroy();
});

test('options out of range are refused', () => {
  const cache = new KvCache(device, layout, { pageTokens: 8, dtype: 'f32' });
  const make = (options: AttentionOptions) => () => new Attention(cache, options);
  for (const heads of [0, 1, 3, -2, NaN]) {
    expect(make({ heads })).toThrow(`${heads} query heads cannot share 2 key/value heads evenly`);
  }
  for (const chunk of [0, 4, 12, NaN]) {
    expect(make({ heads: 2, chunk })).toThrow(`chunk is ${chunk}: it must be a multiple of pageTokens`);
  }
  for (const workgroups of [0, 1.5, 65536]) {
    expect(make({ heads: 2, workgroups })).toThrow(
      `workgroups is ${workgroups}: it must be an integer from 1 to`,
    );
  }
  for (const headDim of [8, 18, 260]) {
    const odd = new KvCache(device, { ...layout, headDim }, { dtype: 'f32' });
    expect(() => new Attention(odd, { heads: 2 })).toThrow(`head size ${headDim} must be a multiple of 4`);
  }
});
