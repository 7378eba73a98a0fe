import {
  addAndNorm,
  matmul,
  normRows,
  partialSums,
  ropeEpilogue,
  type Batch,
  type Device,
  type GpuTensor,
  type Matrix,
  type Operand,
  type WeightStorage,
} from '@ensample/tensor';
import {
  expectNoErrors,
  expectNothingAllocated,
  KernelCheck,
  largeGpu,
  nullDevice,
  scope,
} from '@ensample/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const rows = [1, 2, 3, 4, 16, 17, 32, 48, 64, 128, 2048];
const shapes = [
  [4096, 4096],
  [22016, 4096],
  [12288, 4096],
  [1536, 4096],
  [32000, 4096],
  [96, 96],
  [384, 384],
] as const;
const stores = ['assign', 'accumulate', 'gated'] as const;

/** Some of the kernels that a tier must meet, by variant. */
const met = {
  subgroups: ['team4x', 'team16x', 'team64x'],
  f16: ['team4x', 'team16x', 'team64x'],
  matrix: ['matrix32x32_splits4', 'matrix128x64_slices4', 'add_slices'],
} as const;
const metOfPanels = [
  ...[
    'row2x2_lanes4',
    'panels8x32_splits4_depth8_sides2',
    'panels8x16_splits8_depth8_sides2',
    'panels16x64_splits2_depth8_sides2',
    'panels16x32_splits4_depth8',
    'panels32x64_splits2_depth8_sides2',
    'panels48x128_splits2_depth8_sides2',
    'panels48x128_splits2_depth8',
    'panels64x128',
    'panels64x64',
  ],
  ...['matrix128x64_slices4', 'add_slices'],
];

// Dawn's null adapter has too little workgroup memory for most products of tier matrix, and subgroups too small for teams:
// compile.test.ts meets few of them.
describe.each(['subgroups', 'f16', 'matrix'] as const)('tier %s: every product of a large GPU', (tier) => {
  let device: Device;
  beforeAll(async () => {
    device = await nullDevice(tier, largeGpu);
  });
  afterAll(async () => {
    await expectNoErrors(device);
    expectNothingAllocated(device);
    device.destroy();
  });

  /** Records all sizes, stores and operands, on stand-ins for tensors: nothing is bound. */
  function recordAll(check: KernelCheck, storage: WeightStorage): void {
    const { own, destroy } = scope();
    const tensor = own(device.tensor<'f32'>('f32', [1]));
    const room = { ...tensor, byteLength: Infinity };
    const like = (dtype: Operand) => ({ ...tensor, dtype });
    const words = own(device.tensor('u32', [1]));
    const batch = own(device.tensor<'u32'>('u32', [1]));
    for (const [outputs, columns] of shapes) {
      const blocks = [{ words, scales: words, dims: words, rows: outputs }];
      const weights = { storage, rows: outputs, columns, blocks } as unknown as Matrix;
      for (const store of stores) {
        for (const x of tier === 'subgroups' ? (['f32'] as const) : (['f32', 'f16'] as const)) {
          const y = store === 'gated' ? x : 'f32';
          const operands = { batch, x: like(x), weights, y: like(y) };
          for (const count of rows) {
            matmul(check, operands, { rows: count, store });
            matmul(check, { ...operands, partial: room }, { rows: count, store });
          }
        }
      }
      for (const count of tier === 'matrix' ? rows : []) recordNorm(check, { tensor, batch, weights }, count);
    }
    destroy();
  }

  /** The same product added to a residual stream, and reading it normalised. */
  function recordNorm(
    check: KernelCheck,
    { tensor, batch, weights }: { tensor: GpuTensor<'f32'>; batch: Batch; weights: Matrix },
    count: number,
  ): void {
    const narrow = { ...tensor, dtype: 'f16' } as const;
    const weight = { ...tensor, shape: [weights.rows] };
    const stream = { batch, y: tensor, weight, normed: narrow, norms: tensor };
    const shape = { rows: count, eps: 1e-6 };
    const partial = { ...tensor, byteLength: Infinity };
    const before = normRows(check, stream, shape);
    const product = { x: narrow, weights, partial };
    const x = addAndNorm(check, product, stream, { ...shape, reader: weights, before });
    for (const store of ['assign', 'gated', ropeEpilogue(tensor, 128)] as const)
      matmul(check, { batch, x, weights, y: tensor, partial }, { rows: count, store });
  }

  const storages: WeightStorage[] = ['f32', 'f16', 'int8', 'int4'];
  test.each(tier === 'matrix' ? [...storages, 'panels' as const] : storages)('%s', async (storage) => {
    const check = new KernelCheck(device);
    recordAll(check, storage);
    const names = check.kernels.map(({ name }) => name.replace(/^matmul_/, ''));
    for (const variant of storage === 'panels' ? metOfPanels : met[tier])
      expect(names.some((name) => name.startsWith(variant))).toBe(true);
    if (tier === 'matrix')
      for (const role of ['norms[square_at(row, part)] =', 'norms[ROOTS + row] ='])
        expect(check.kernels.filter(({ code }) => code.includes(role)).length).toBeGreaterThan(4);
    for (const { code } of check.kernels) expectCheapChecks(code);
    await check.expectCompiled();
  });

  test('room for sums is for products that share them: none for many outputs', () => {
    expect(partialSums(device, 512, 128256)).toBe(0);
    expect(partialSums(device, 512, 4096) > 0).toBe(tier === 'matrix');
  });

  test('the check itself fails on what a large GPU lacks, or does not compile', async () => {
    const run = async (rest: string) => {
      const check = new KernelCheck(device);
      const code = `var<workgroup> room: array<f32, ${rest}`;
      check.run({ name: 'k', code, bindings: [] }, {}, [1]);
      await check.expectCompiled();
    };
    const main = '@compute @workgroup_size(32) fn main() { room[0] += 1; }';
    await run(`12000>; ${main}`);
    await expect(run(`13000>; ${main}`)).rejects.toThrow('52000 bytes');
    const large = (width: number) => main.replace('32', String(width));
    await run(`12000>; ${large(512)}`);
    await expect(run(`13000>; ${large(512)}`)).rejects.toThrow('52000 bytes');
    await expect(run(`100>; ${large(2048)}`)).rejects.toThrow('workgroup_size(2048');
    await expect(run(`100>; ${main} fn`)).rejects.toThrow('does not compile');
    const store = 'subgroupMatrixStore<row_major>(&room, 0u, sums, 16u);';
    await expect(run(`256>; fn put() { ${store} } ${main}`)).rejects.toThrow('may not be aligned');
    const nested = `var<workgroup> tiles: array<array<f32, 256>, 2>; fn put() { ${store.replace('&room', '&tiles[1]')} }`;
    await expect(run(`256>; ${nested} ${main}`)).rejects.toThrow('may not be aligned');
  });
});

/**
 * Bounds of a matrix are checked before a shader runs only where all that it is given are numbers, and its array has a size of its
 * own; a loop gets no second count only where it counts by one to a constant (docs/performance-log.md).
 */
function expectCheapChecks(code: string): void {
  if (!code.includes('subgroupMatrixLoad')) return;
  const places = [...code.matchAll(/subgroupMatrixLoad<[^(]*\((.*?), ([^,]+), ([^,]+)\);/g)];
  expect(places.length).toBeGreaterThan(1);
  expect(places.filter(([, , ...numbers]) => !numbers.every((number) => /^\d+u$/.test(number)))).toEqual([]);
  const loops = [...code.slice(code.indexOf('alias Left =')).matchAll(/for \(.*?; .*?; (.*?)\) \{/g)];
  expect(loops.length).toBeGreaterThan(4);
  expect(loops.filter(([, step = '']) => !/^\w+\+\+$/.test(step))).toEqual([]);
}
