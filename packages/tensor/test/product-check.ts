import {
  partialSums,
  uploadMatrix,
  type Device,
  type GpuTensor,
  type Operand,
  type Operands,
  type Pass,
  type Product,
  type ProductShape,
  type Store,
  type WeightFormat,
  type WeightStorage,
} from '@ensample/tensor';
import {
  compute,
  expectClose,
  gatedReference,
  matmulReference,
  randomMatrix,
  readValues,
  scope,
  seeded,
  storedValues,
  tolerance,
  uploadBatch,
  uploadValues,
} from '@ensample/testing';
import { expect } from 'vitest';

/** Each format once, and each store and pair of operands once: they know nothing of each other. */
export const products: readonly (Product & { readonly store: Store })[] = [
  { format: 'f32', store: 'assign', x: 'f32', y: 'f32' },
  { format: 'f16', store: 'accumulate', x: 'f16', y: 'f32' },
  { format: 'int8', store: 'gated', x: 'f16', y: 'f16' },
  { format: 'int4', store: 'assign', x: 'f16', y: 'f32' },
  { format: 'panels', store: 'assign', x: 'f16', y: 'f32' },
];

/** Outputs that no tile divides: an odd number, but for gates, in two tiles of most variants; of panels, an odd number of them. */
export const outputsOf = ({
  format,
  store,
}: {
  readonly format: WeightStorage;
  readonly store: Store;
}): number => (format === 'panels' ? 112 : store === 'gated' ? 102 : 101);

export const formatOf = (storage: WeightStorage): WeightFormat => (storage === 'panels' ? 'f16' : storage);

/** A product to check: rows that there is room for, and those that there are. */
export interface Run {
  readonly capacity: number;
  readonly active: number;
  readonly columns: number;
}

/** Products of one matrix, compared with the reference; rows that are not active hold NaN and must not be stored. */
export async function checkProduct(
  device: Device,
  product: Product & { readonly store: Store },
  runs: readonly Run[],
  record: (pass: Pass, tensors: Operands & { x: GpuTensor<Operand> }, shape: ProductShape) => void,
): Promise<void> {
  const { format, store, x: xType, y: yType } = product;
  const outputs = outputsOf(product);
  const stored = store === 'gated' ? outputs / 2 : outputs;
  const random = seeded(7);
  for (const { capacity, active, columns: width } of runs) {
    const { own, destroy } = scope();
    const { host, values } = randomMatrix(random, formatOf(format), outputs, width);
    const used = storedValues(xType, random.normals(active * width));
    const x = new Float32Array(capacity * width).fill(NaN);
    x.set(used);
    const before = storedValues(yType, random.normals(capacity * stored));
    const reference = (store === 'gated' ? gatedReference : matmulReference)(used, values, width);
    const added = store === 'accumulate' ? before : new Float32Array(before.length);
    const y = own(uploadValues(device, yType, [capacity, stored], before));
    const room = partialSums(device, capacity, outputs);
    const tensors = {
      ...{ batch: own(uploadBatch(device, new Array(active).fill({}), capacity)), y },
      x: own(uploadValues(device, xType, [capacity, width], x)),
      weights: own(uploadMatrix(device, host)),
      partial: own(device.tensor<'f32'>('f32', [Math.max(2 * 64 * 128, room)])),
    };
    const shape = { rows: capacity, outputs, columns: width, format };
    await compute(device, (pass) => record(pass, tensors, shape));
    const result = await readValues(device, y);
    const expected = storedValues(
      yType,
      reference.map((value, i) => value + added[i]!),
    );
    expectClose(result.subarray(0, expected.length), expected, tolerance.f16);
    expect(result.subarray(expected.length)).toEqual(before.subarray(expected.length));
    destroy();
  }
}
