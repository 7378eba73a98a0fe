import { matmul, type Device, type Matrix, type Operand, type WeightFormat } from '@ensample/tensor';
import {
  expectNoErrors,
  expectNothingAllocated,
  KernelCheck,
  largeGpu,
  nullDevice,
  scope,
} from '@ensample/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const rows = [1, 2, 3, 16, 17, 32, 64, 128, 2048];
const shapes = [
  [4096, 4096],
  [22016, 4096],
  [96, 96],
  [384, 384],
] as const;
const stores = ['assign', 'accumulate', 'gated'] as const;

// Dawn's null adapter has too little workgroup memory for most products of tier matrix: compile.test.ts meets few of them.
describe('every product of tier matrix that a large GPU is given', () => {
  let device: Device;
  beforeAll(async () => {
    device = await nullDevice('matrix', largeGpu);
  });
  afterAll(async () => {
    await expectNoErrors(device);
    expectNothingAllocated(device);
    device.destroy();
  });

  /** Records all sizes, stores and operands, on stand-ins for tensors: nothing is bound. */
  function recordAll(check: KernelCheck, format: WeightFormat): void {
    const { own, destroy } = scope();
    const tensor = own(device.tensor<'f32'>('f32', [1]));
    const room = { ...tensor, byteLength: Infinity };
    const like = (dtype: Operand) => ({ ...tensor, dtype });
    const words = own(device.tensor('u32', [1]));
    const batch = own(device.tensor<'u32'>('u32', [1]));
    for (const [outputs, columns] of shapes) {
      const blocks = [{ words, scales: words, dims: words, rows: outputs }];
      const weights = { format, rows: outputs, columns, blocks } as unknown as Matrix;
      for (const store of stores) {
        for (const x of ['f32', 'f16'] as const) {
          const operands = { batch, x: like(x), weights, y: like(store === 'gated' ? 'f16' : 'f32') };
          for (const count of rows) {
            matmul(check, operands, { rows: count, store });
            matmul(check, { ...operands, partial: room }, { rows: count, store });
          }
        }
      }
    }
    destroy();
  }

  test.each(['f32', 'f16', 'int8', 'int4'] as const)('%s', async (format) => {
    const check = new KernelCheck(device);
    recordAll(check, format);
    const names = new Set(check.kernels.map(({ name }) => name.split('_').slice(1, 3).join(' ')));
    const some = [`matrix16x32 ${format}`, 'matrix128x64 slices', 'add slices'];
    expect([...names]).toEqual(expect.arrayContaining(some));
    await check.expectCompiled();
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
    await expect(run(`100>; ${main} fn`)).rejects.toThrow('does not compile');
  });
});
