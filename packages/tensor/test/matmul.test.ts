import {
  matmul,
  Recorder,
  tiers,
  uploadMatrix,
  type Device,
  type Operand,
  type Store,
  type TierName,
  type WeightFormat,
} from '@ensample/tensor';
import {
  compilesSlowly,
  compute,
  eachTier,
  expectClose,
  gatedReference,
  matmulReference,
  randomMatrix,
  readValues,
  sameProducts,
  scope,
  seeded,
  storedValues,
  tolerance,
  uploadBatch,
  uploadValues,
} from '@ensample/testing';
import { describe, expect, test } from 'vitest';

/** Row capacities: each kernel's own range, its edges, and one past them. */
const capacities = [1, 2, 3, 4, 5, 8, 13, 16, 17, 40, 70];
/** One of each kind of kernel: how they store knows nothing of how many rows they take. */
const some = [1, 3, 13, 40];
/** Not multiples of 16 quads: the last round of a tile is short. */
const columns: Readonly<Record<WeightFormat, number>> = { f32: 100, f16: 104, int8: 96, int4: 96 };

interface Case {
  readonly format: WeightFormat;
  readonly store: Store;
  readonly outputs: number;
  readonly maxBlockBytes?: number;
  /** Element types of x and y. Default: f32 both. */
  readonly types?: { readonly x: Operand; readonly y: Operand };
  /** Row capacities. Default: {@link capacities}. */
  readonly rows?: readonly number[];
}

const wide = { x: 'f32', y: 'f32' } as const;
const narrowed = { x: 'f16', y: 'f16' } as const;

/** Products of all capacities, with all rows active and with fewer, in one submit. */
async function check(device: Device, tier: TierName, given: Case) {
  const { format, store, outputs, maxBlockBytes, types = wide, rows = capacities } = given;
  const random = seeded(outputs);
  const { own, destroy } = scope();
  const width = columns[format];
  const { host, values } = randomMatrix(random, format, outputs, width);
  const weights = own(uploadMatrix(device, host, maxBlockBytes));
  const stored = store === 'gated' ? outputs / 2 : outputs;
  const reference = store === 'gated' ? gatedReference : matmulReference;
  const runs = rows.flatMap((capacity) => [
    { capacity, active: capacity },
    { capacity, active: Math.ceil(capacity / 2) },
  ]);
  const products = runs.map(({ capacity, active }) => {
    const x = storedValues(types.x, random.normals(capacity * width));
    const before = storedValues(types.y, random.normals(capacity * stored));
    const expected = reference(x.subarray(0, active * width), values, width);
    const entries = Array.from({ length: active }, () => ({}));
    return {
      capacity,
      expected: storedValues(
        types.y,
        expected.map((value, i) => value + (store === 'accumulate' ? before[i]! : 0)),
      ),
      untouched: before.subarray(active * stored),
      batch: own(uploadBatch(device, entries, capacity)),
      x: own(uploadValues(device, types.x, [capacity, width], x)),
      y: own(uploadValues(device, types.y, [capacity, stored], before)),
    };
  });
  await compute(device, (pass) => {
    for (const { batch, x, y, capacity } of products)
      matmul(pass, { batch, x, weights, y }, { rows: capacity, store });
  });
  for (const { capacity, expected, untouched, y } of products) {
    const rounds = types.y === 'f16' || (tier === 'matrix' && capacity > 4);
    const allowed = rounds ? tolerance.f16 : tolerance.f32;
    const result = await readValues(device, y);
    expectClose(result.subarray(0, expected.length), expected, allowed);
    expect(result.subarray(expected.length)).toEqual(untouched);
  }
  destroy();
}

/** silu is 0 far below 0 and the identity far above it, in every variant. */
async function checkLargeGates(device: Device, types: { x: Operand; y: Operand }) {
  const { own, destroy } = scope();
  const gates = [500, -500, 100, -100, 500];
  const ups = [3, 3, -2, -2, -300];
  const values = Float32Array.from(gates.flatMap((gate, i) => [gate, 0, 0, 0, ups[i]!, 0, 0, 0]));
  const weights = own(uploadMatrix(device, { format: 'f32', rows: 10, columns: 4, data: values }));
  const last = types.y === 'f16' ? -65504 : -150_000;
  for (const rows of some) {
    const ones = Float32Array.from({ length: 4 * rows }, (_, i) => (i % 4 === 0 ? 1 : 0));
    const each = Array.from({ length: rows }, () => ({}));
    const batch = own(uploadBatch(device, each));
    const x = own(uploadValues(device, types.x, [rows, 4], ones));
    const y = own(device.tensor(types.y, [rows, 5]));
    await compute(device, (pass) => matmul(pass, { batch, x, weights, y }, { rows, store: 'gated' }));
    const expected = each.flatMap(() => [1500, 0, -200, 0, last]);
    expectClose(await readValues(device, y), expected, tolerance.exact);
  }
  destroy();
}

/** Bytes of 15 rows. */
function blockBytes(format: WeightFormat): number {
  return 15 * columns[format] * { f32: 4, f16: 2, int8: 1, int4: 0.5 }[format];
}

await eachTier((device, tier) => {
  describe.each(['f32', 'f16', 'int8', 'int4'] as const)('matmul, %s weights', (format) => {
    test('of any row count', () => {
      // How rows are counted is the same for all formats.
      const rows = format !== 'f32' && compilesSlowly(device()) ? some : capacities;
      return check(device(), tier, { format, store: 'assign', outputs: 131, rows });
    });
    // 37 outputs end in a quad that is not full; blocks have 14 rows.
    test('in blocks of rows', () =>
      check(device(), tier, { format, store: 'assign', outputs: 37, maxBlockBytes: blockBytes(format) }));
  });
  // One format stands for all: the storing code does not know the format, and pipelines are slow to compile here.
  test('matmul, added to y', () =>
    check(device(), tier, { format: 'int8', store: 'accumulate', outputs: 131, rows: some }));
  test('matmul, gated, in one block and in several', async () => {
    const gated = { format: 'int8', store: 'gated', rows: some } as const;
    await check(device(), tier, { ...gated, outputs: 74 });
    await check(device(), tier, { ...gated, outputs: 38, maxBlockBytes: blockBytes('int8') });
  });
  test('matmul, gated, with gates as large as ±500', () => checkLargeGates(device(), wide));
  describe.runIf(tiers[tier].features.includes('shader-f16'))('matmul of f16 operands', () => {
    // Products that are operands of the next one leave in f16, all others in f32.
    test.each(['f16', 'int8'] as const)('%s weights', async (format) => {
      const types = { x: 'f16', y: 'f32' } as const;
      await check(device(), tier, { format, store: 'assign', outputs: 37, types });
    });
    test('gated', () =>
      check(device(), tier, { format: 'int4', store: 'gated', outputs: 38, types: narrowed, rows: some }));
    test('added to y', () =>
      check(device(), tier, {
        format: 'int8',
        store: 'accumulate',
        outputs: 37,
        types: { x: 'f16', y: 'f32' },
        rows: some,
      }));
    test('gated, with results that are too large', () => checkLargeGates(device(), narrowed));
  });
  test('matmul refuses an odd number of gates and what they let through', () => {
    const matrix = uploadMatrix(device(), randomMatrix(seeded(1), 'f32', 7, 4).host);
    const [x, y] = [device().tensor('f32', [1, 4]), device().tensor('f32', [1, 4])];
    const batch = uploadBatch(device(), [{}]);
    const pass = new Recorder(device());
    expect(() => matmul(pass, { batch, x, weights: matrix, y }, { rows: 1, store: 'gated' })).toThrow(
      '7 rows',
    );
    for (const part of [matrix, x, y, batch]) part.destroy();
  });
}, sameProducts);
