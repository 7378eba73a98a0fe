import { matmul, ropeAngles, tiers, uploadMatrix, type Device, type TierName } from '@ensample/tensor';
import {
  compute,
  eachTier,
  expectClose,
  expectNoErrors,
  fromHalf,
  identityMatrix,
  nullDevice,
  ropePairsReference,
  scope,
  seeded,
  tolerance,
  uploadBatch,
} from '@ensample/testing';
import { describe, expect, test } from 'vitest';
import {
  appendEpilogue,
  headerWords,
  KvCache,
  layOutTables,
  ropeAppend,
  segmentTable,
  type KvCacheOptions,
  type StepSequence,
} from '../src/index.ts';

const kvHeads = 2;
const headDim = 20;
const heads = 4;
const stride = (heads + 2 * kvHeads) * headDim;
const theta = 10_000;
const layers = [
  { kind: 'full', kvSource: 0 },
  { kind: 'sliding', window: 6, kvSource: 1 },
  { kind: 'sliding', window: 6, kvSource: 1 },
  { kind: 'full', kvSource: 3 },
] as const;
/** Who turns and stores: a kernel of its own, or the product that computes the rows. */
type Way = 'kernel' | 'product';
const pageBytes = 4 * 2 * kvHeads * headDim * 4;

/**
 * Turns and appends random rows of a step in all layers that own their KV; row r of layer l is given `given[l][r]`, and
 * what is then in its place is `turned[l][r]`.
 */
async function appendStep(cache: KvCache, step: readonly StepSequence[], way: Way, active?: number) {
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
  const batch = own(uploadBatch(device, batchRows.slice(0, active), table.rows));
  const angles = own(device.upload<'f32'>('f32', [64, headDim], ropeAngles(64, headDim, theta)));
  const random = seeded(5);
  const { rows } = table;
  const given = layers.map(() => random.normals(rows * stride));
  const xs = given.map((values) => own(device.upload<'f32'>('f32', [rows, stride], values)));
  const same = own(uploadMatrix(device, identityMatrix(stride)));
  await compute(device, (pass) =>
    xs.forEach((y, layer) => {
      if (!cache.places[layer]!.owns) return;
      const store = way === 'product' && appendEpilogue(cache, layer, { plan, angles }, heads);
      if (way === 'kernel') ropeAppend(pass, cache, layer, { batch, plan, angles, x: y }, { heads, rows });
      else if (store) {
        const x = own(device.upload<'f32'>('f32', [rows, stride], given[layer]!));
        matmul(pass, { batch, x, weights: same, y }, { rows, store });
      } else throw new Error('rows of several slabs cannot be stored by a product');
    }),
  );
  const turned = await Promise.all(xs.map((x) => device.read(x)));
  destroy();
  return { given, turned, places: table.places, positions: batchRows.map(({ position }) => position) };
}

/** Rows as they are after their positions were given to them: `[rows, queries and keys turned, values]`. */
function turnedReference(x: Float32Array<ArrayBuffer>, positions: readonly number[]) {
  const front = (heads + kvHeads) * headDim;
  const part = Float32Array.from(
    positions.flatMap((_, r) => [...x.subarray(r * stride, r * stride + front)]),
  );
  const turned = ropePairsReference(part, { heads: heads + kvHeads, headDim, positions, theta });
  const rows = x.slice();
  positions.forEach((_, r) => rows.set(turned.subarray(r * front, (r + 1) * front), r * stride));
  return rows;
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

/** Queries once, however many slabs there are; the keys and values beside them stay as they were. */
function expectQueriesTurned(
  actual: Float32Array,
  { given, expected }: { given: Float32Array; expected: Float32Array },
): void {
  const row = (values: Float32Array, at: number) => [...values.subarray(at, at + heads * headDim)];
  for (let at = 0; at < given.length; at += stride) {
    expectClose(row(actual, at), row(expected, at), tolerance.f32);
    const rest = [at + heads * headDim, at + stride] as const;
    expect(actual.subarray(...rest)).toEqual(given.subarray(...rest));
  }
}

async function checkAppend(device: Device, options: KvCacheOptions, way: Way = 'kernel'): Promise<void> {
  const cache = new KvCache(
    device,
    { layers, kvHeads, headDim },
    { pageTokens: 4, draftLimit: 2, ...options },
  );
  if (way === 'product') cache.ensure([16, 16]); // in one slab
  const prompt = cache.sequence();
  prompt.reserve(9);
  prompt.commit(9);
  const step = [1, 3, 2, 5].map((rows) => ({ sequence: prompt.fork(), rows }));
  for (const { sequence, rows } of step) sequence.reserve(rows);
  const { given, turned, places, positions } = await appendStep(cache, step, way);
  const close = cache.dtype === 'f16' ? tolerance.f16 : tolerance.f32;
  for (const [layer, x] of given.entries()) {
    if (!cache.places[layer]!.owns) continue;
    const rows = turnedReference(x, positions);
    expectQueriesTurned(turned[layer]!, { given: x, expected: rows });
    const stored = await readKv(cache, layer);
    step.forEach((entry, i) => {
      for (let r = 0; r < entry.rows; r++) {
        const keysAt = (places[i]!.firstRow + r) * stride + heads * headDim;
        const valuesAt = keysAt + kvHeads * headDim;
        const position = entry.sequence.length + r;
        expectClose(stored(entry, position, 0), rows.subarray(keysAt, valuesAt), close);
        const values = rows.subarray(valuesAt, valuesAt + kvHeads * headDim);
        expectClose(stored(entry, position, 1), values, cache.dtype === 'f16' ? close : tolerance.exact);
      }
    });
  }
  cache.destroy();
}

await eachTier((device) => {
  test("rows are turned and arrive in their leaves' pages, layer by layer", () => checkAppend(device(), {}));
  test('… by the product that computes them', () => checkAppend(device(), {}, 'product'));
  test('… in several slabs', () => checkAppend(device(), { dtype: 'f32', slabBytes: 4 * pageBytes }));

  test('a row past the count of the batch writes nothing', async () => {
    const cache = new KvCache(device(), { layers, kvHeads, headDim }, { pageTokens: 4 });
    const sequence = cache.sequence();
    sequence.reserve(4);
    const { given, turned } = await appendStep(cache, [{ sequence, rows: 4 }], 'kernel', 0);
    expect(turned).toEqual(given);
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
    const angles = own(device.tensor('f32', [8, headDim]));
    const tensors = { batch, plan, angles, x };
    const shape = { heads: kvHeads, rows: 1 };
    await compute(device, (pass) => {
      for (const layer of [0, 1, 3]) ropeAppend(pass, cache, layer, tensors, shape);
      expect(() => ropeAppend(pass, cache, 2, tensors, shape)).toThrow('layer 2 owns no KV to append to');
    });
    destroy();
    cache.destroy();
  }
}
