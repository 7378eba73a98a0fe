import {
  matmul,
  uploadMatrix,
  type Device,
  type Store,
  type TierName,
  type WeightFormat,
} from '@ensample/tensor';
import {
  compute,
  eachTier,
  expectClose,
  matmulReference,
  randomMatrix,
  scope,
  seeded,
  tolerance,
  uploadBatch,
} from '@ensample/testing';
import { describe, expect, test } from 'vitest';

/** Row capacities: each kernel's own range, its edges, and one past them. */
const capacities = [1, 2, 3, 4, 5, 8, 13, 16, 17, 40, 70];
/** Not multiples of 16 quads: the last round of a tile is short. */
const columns: Readonly<Record<WeightFormat, number>> = { f32: 100, f16: 104, int8: 96, int4: 96 };

interface Case {
  readonly format: WeightFormat;
  readonly store: Store;
  readonly outputs: number;
  readonly maxBlockBytes?: number;
}

/** Products of all capacities, with all rows active and with fewer, in one submit. */
async function check(device: Device, tier: TierName, { format, store, outputs, maxBlockBytes }: Case) {
  const random = seeded(outputs);
  const { own, destroy } = scope();
  const width = columns[format];
  const { host, values } = randomMatrix(random, format, outputs, width);
  const weights = own(uploadMatrix(device, host, maxBlockBytes));
  const runs = capacities.flatMap((capacity) => [
    { capacity, active: capacity },
    { capacity, active: Math.ceil(capacity / 2) },
  ]);
  const products = runs.map(({ capacity, active }) => {
    const x = random.normals(capacity * width);
    const before = random.normals(capacity * outputs);
    const expected = matmulReference(x.subarray(0, active * width), values, width);
    const rows = Array.from({ length: active }, () => ({}));
    return {
      capacity,
      expected: expected.map((value, i) => value + (store === 'accumulate' ? before[i]! : 0)),
      untouched: before.subarray(active * outputs),
      batch: own(uploadBatch(device, rows, capacity)),
      x: own(device.upload('f32', [capacity, width], x)),
      y: own(device.upload('f32', [capacity, outputs], before)),
    };
  });
  await compute(device, (pass) => {
    for (const { batch, x, y, capacity } of products)
      matmul(pass, { batch, x, weights, y }, { rows: capacity, store });
  });
  for (const { capacity, expected, untouched, y } of products) {
    const allowed = tier === 'matrix' && capacity > 4 ? tolerance.f16 : tolerance.f32;
    const result = await device.read(y);
    expectClose(result.subarray(0, expected.length), expected, allowed);
    expect(result.subarray(expected.length)).toEqual(untouched);
  }
  destroy();
}

await eachTier((device, tier) => {
  describe.each(['f32', 'f16', 'int8', 'int4'] as const)('matmul, %s weights', (format) => {
    test('of any row count', () => check(device(), tier, { format, store: 'assign', outputs: 131 }));
    test('in blocks of rows', async () => {
      const rowBytes = columns[format] * { f32: 4, f16: 2, int8: 1, int4: 0.5 }[format];
      await check(device(), tier, { format, store: 'assign', outputs: 37, maxBlockBytes: 15 * rowBytes });
    });
  });
  // One format stands for all: the storing code does not know the format, and pipelines are slow to compile here.
  test('matmul, added to y', () =>
    check(device(), tier, { format: 'int8', store: 'accumulate', outputs: 131 }));
});
