import { tiers, type Device, type TierName } from '@ensample/tensor';
import {
  compute,
  eachTier,
  expectClose,
  expectNoErrors,
  fromHalf,
  nullDevice,
  scope,
  seeded,
  tolerance,
  uploadBatch,
} from '@ensample/testing';
import { describe, expect, test } from 'vitest';
import {
  append,
  headerWords,
  KvCache,
  layOutTables,
  segmentTable,
  type KvCacheOptions,
  type StepSequence,
} from '../src/index.ts';

const kvHeads = 2;
const headDim = 20;
const stride = 3 * headDim + 2 * kvHeads * headDim; // three query heads in front
const layers = [
  { kind: 'full', kvSource: 0 },
  { kind: 'sliding', window: 6, kvSource: 1 },
  { kind: 'sliding', window: 6, kvSource: 1 },
  { kind: 'full', kvSource: 3 },
] as const;
const pageBytes = 4 * 2 * kvHeads * headDim * 4;

/** Appends random rows of a step to all layers; row r of layer l gets `x[l][r]`. */
async function appendStep(cache: KvCache, step: readonly StepSequence[], rows?: number) {
  const { device } = cache;
  const { own, destroy } = scope();
  const table = segmentTable(step);
  const words = new Array<number>(headerWords).fill(0);
  layOutTables(cache, table, words);
  const plan = own(device.upload<'u32'>('u32', [words.length], Uint32Array.from(words)));
  const batchRows = table.places
    .flatMap(({ firstRow, rows: count, leaf }, i) =>
      Array.from({ length: count }, (_, r) => ({
        row: firstRow + r,
        position: step[i]!.sequence.length + r,
        leaf,
      })),
    )
    .sort((a, b) => a.row - b.row);
  const batch = own(uploadBatch(device, batchRows.slice(0, rows), table.rows));
  const random = seeded(5);
  const xs = layers.map(() => random.normals(table.rows * stride));
  await compute(device, (pass) =>
    xs.forEach((values, layer) => {
      if (!cache.places[layer]!.owns) return;
      const x = own(device.upload<'f32'>('f32', [table.rows, stride], values));
      append(pass, cache, layer, { batch, plan, x }, { stride, keysAt: 3 * headDim, rows: table.rows });
    }),
  );
  await device.gpu.queue.onSubmittedWorkDone();
  destroy();
  return { xs, places: table.places };
}

/** A layer's stored keys (0) or values (1) of a position, all heads. */
async function readKv(cache: KvCache, layer: number) {
  const buffers = await Promise.all(
    Array.from({ length: cache.slabs }, async (_, slab) => {
      const buffer = cache.buffer(layer, slab);
      const data = buffer ? await cache.device.read(buffer) : [];
      return cache.dtype === 'f16' ? Array.from(data, fromHalf) : Array.from(data);
    }),
  );
  return ({ sequence }: StepSequence, position: number, which: number): number[] => {
    const leaf = sequence.leaf!;
    const { slab, first, ids } = leaf.runs[cache.places[layer]!.kind]!;
    const page = ids[Math.floor((position - leaf.start) / 4) - first]!;
    return Array.from({ length: kvHeads }, (_, head) => {
      const at = (((page * 2 + which) * kvHeads + head) * 4 + ((position - leaf.start) % 4)) * headDim;
      return buffers[slab]!.slice(at, at + headDim);
    }).flat();
  };
}

async function checkAppend(device: Device, options: KvCacheOptions): Promise<void> {
  const cache = new KvCache(
    device,
    { layers, kvHeads, headDim },
    { pageTokens: 4, draftLimit: 2, ...options },
  );
  const prompt = cache.sequence();
  prompt.reserve(9);
  prompt.commit(9);
  const step = [1, 3, 2, 5].map((rows) => ({ sequence: prompt.fork(), rows }));
  for (const { sequence, rows } of step) sequence.reserve(rows);
  const { xs, places } = await appendStep(cache, step);
  for (const [layer, x] of xs.entries()) {
    if (!cache.places[layer]!.owns) continue;
    const stored = await readKv(cache, layer);
    step.forEach((entry, i) => {
      for (let r = 0; r < entry.rows; r++) {
        const at = (places[i]!.firstRow + r) * stride + 3 * headDim;
        const expected = x.subarray(at, at + 2 * kvHeads * headDim);
        const position = entry.sequence.length + r;
        const actual = [...stored(entry, position, 0), ...stored(entry, position, 1)];
        expectClose(actual, expected, cache.dtype === 'f16' ? tolerance.f16 : tolerance.exact);
      }
    });
  }
  cache.destroy();
}

await eachTier((device) => {
  test("rows arrive in their leaves' pages, layer by layer", () => checkAppend(device(), {}));
  test('… in several slabs', () => checkAppend(device(), { dtype: 'f32', slabBytes: 4 * pageBytes }));

  test('a row past the count of the batch writes nothing', async () => {
    const cache = new KvCache(device(), { layers, kvHeads, headDim }, { pageTokens: 4 });
    const sequence = cache.sequence();
    sequence.reserve(4);
    await appendStep(cache, [{ sequence, rows: 4 }], 0);
    const untouched = await readKv(cache, 0);
    expect(untouched({ sequence, rows: 4 }, 0, 0).every((value) => value === 0)).toBe(true);
    cache.destroy();
  });
});

describe('compiles on the null backend', () => {
  test.each(Object.keys(tiers) as TierName[])('%s', async (tier) => {
    const device = await nullDevice(tier);
    for (const dtype of tiers[tier].features.includes('shader-f16')
      ? (['f32', 'f16'] as const)
      : ['f32' as const]) {
      await checkCompiles(device, dtype);
    }
    await expectNoErrors(device);
    device.destroy();
  });
});

async function checkCompiles(device: Device, dtype: 'f32' | 'f16'): Promise<void> {
  for (const headDim of [32, 64, 80, 96, 128, 256]) {
    const cache = new KvCache(device, { layers, kvHeads, headDim }, { dtype });
    cache.ensure([1, 1]);
    const { own, destroy } = scope();
    const batch = own(uploadBatch(device, [{}]));
    const plan = own(device.tensor('u32', [64]));
    const x = own(device.tensor('f32', [1, 3 * kvHeads * headDim]));
    await compute(device, (pass) => {
      const shape = { stride: 3 * kvHeads * headDim, keysAt: kvHeads * headDim, rows: 1 };
      for (const layer of [0, 1, 3]) append(pass, cache, layer, { batch, plan, x }, shape);
      expect(() => append(pass, cache, 2, { batch, plan, x }, shape)).toThrow(
        'layer 2 owns no KV to append to',
      );
    });
    destroy();
    cache.destroy();
  }
}
