import {
  DeviceLostError,
  emptyMatrix,
  InvalidModelError,
  InvalidOptionError,
  isSoftware,
  kernel,
  matrixBytes,
  openDevice,
  OutOfMemoryError,
  supportedTiers,
  tiers,
  uploadMatrix,
  UnsupportedFeatureError,
  type Device,
  type TierName,
} from '@ensample/tensor';
import {
  expectNoErrors,
  expectNothingAllocated,
  nullDevice,
  nullGpu,
  testAdapter,
  testDevice,
} from '@ensample/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { chooseTier } from '../src/capabilities.ts';

describe('Device', () => {
  let device: Device;
  beforeAll(async () => {
    device = await testDevice({ tier: 'plain' });
  });
  afterEach(async () => {
    await expectNoErrors(device);
    expectNothingAllocated(device);
  });
  afterAll(() => device.destroy());

  test('accounts for its tensors to the byte; destroying twice counts once', () => {
    const a = device.tensor('f32', [3, 5]);
    const b = device.tensor('f16', [3]); // 6 bytes in a buffer of 8
    const c = device.uniform([1, 2, 3, 4, 5]);
    expect(device.memory).toEqual({ bytes: 60 + 8 + 32, buffers: 3 });
    expect([a.byteLength, b.byteLength, c.byteLength]).toEqual([60, 6, 32]);
    b.destroy();
    b.destroy();
    expect(device.memory).toEqual({ bytes: 92, buffers: 2 });
    a.destroy();
    c.destroy();
  });

  test('what is uploaded and written is read back, also where it ends inside a word', async () => {
    const halves = device.upload('f16', [5], Uint16Array.from([1, 2, 3, 4, 5]));
    device.write(halves, Uint16Array.from([30, 40, 50]), 4);
    expect(await device.read(halves)).toEqual(Uint16Array.from([1, 2, 30, 40, 50]));
    const floats = device.upload('f32', [4], Float32Array.from([1, -0.5, Infinity, 3e-40]));
    expect(await device.read(floats)).toEqual(Float32Array.from([1, -0.5, Infinity, 3e-40]));
    const signed = device.upload('i32', [2], Int32Array.from([-1, 2]));
    device.write(signed, Int32Array.of(-7), 4);
    expect(await device.read(signed)).toEqual(Int32Array.from([-1, -7]));
    const zero = device.tensor('u32', [3]);
    expect(await device.read(zero)).toEqual(new Uint32Array(3));
    for (const tensor of [halves, floats, signed, zero]) tensor.destroy();
  });

  test('refuses bad shapes, sizes, writes and reads, and allocates nothing for them', async () => {
    for (const shape of [[0], [2, -1], [1.5], [NaN]])
      expect(() => device.tensor('f32', shape)).toThrow(InvalidOptionError);
    expect(() => device.tensor('f32', [2 ** 40])).toThrow(OutOfMemoryError);
    expect(() => device.upload('f32', [4], new Float32Array(3))).toThrow('takes 16 bytes of data, not 12');
    expectNothingAllocated(device);

    const tensor = device.tensor('f16', [6]);
    expect(() => device.write(tensor, new Uint16Array(2), 12)).toThrow(InvalidOptionError);
    expect(() => device.write(tensor, new Uint16Array(2), -4)).toThrow(InvalidOptionError);
    expect(() => device.write(tensor, new Uint16Array(2), 2)).toThrow('multiple of 4');
    expect(() => device.write(tensor, new Uint16Array(3), 0)).toThrow('inside a word');
    tensor.destroy();
    const uniform = device.uniform([1]);
    await expect(device.read(uniform)).rejects.toThrow('without COPY_SRC');
    uniform.destroy();
  });

  test('checkMemory passes on what allocation throws', async () => {
    await expect(device.checkMemory('it', () => device.tensor('f32', [0]))).rejects.toThrow(
      InvalidOptionError,
    );
    await device.checkMemory('it', () => device.tensor('f32', [1]).destroy());
  });

  test('matrices of a wrong shape leave nothing behind', () => {
    const data = new Float32Array(64);
    const upload = (rows: number, columns: number) =>
      uploadMatrix(device, { format: 'f32', rows, columns, data });
    expect(() => upload(32, 2)).toThrow(InvalidModelError);
    expect(() => upload(17, 4)).toThrow('needs 272 bytes, not 256');
    const int8 = {
      format: 'int8',
      rows: 2,
      columns: 32,
      data: new Int8Array(64),
      scales: new Uint16Array(1),
    } as const;
    expect(() => uploadMatrix(device, int8)).toThrow('needs 2 scales, not 1');
    const matrix = upload(16, 4);
    expect(device.memory.bytes).toBe(matrix.bytes);
    matrix.destroy();
  });

  test('an empty matrix is cut like an uploaded one', async () => {
    const shape = { format: 'int8', rows: 6, columns: 32 } as const;
    const host = { ...shape, data: new Int8Array(192).fill(1), scales: new Uint16Array(6).fill(1) };
    const empty = emptyMatrix(device, shape, 128);
    const full = uploadMatrix(device, host, 128);
    expect(empty.blocks.map(({ rows }) => rows)).toEqual([4, 2]);
    for (const [i, { words, scales, dims }] of empty.blocks.entries()) {
      const like = full.blocks[i];
      expect([words.shape, scales.shape, dims.shape]).toEqual([
        like?.words.shape,
        like?.scales.shape,
        like?.dims.shape,
      ]);
      expect(await device.read(words)).toEqual(new Uint32Array(words.byteLength / 4));
    }
    expect([empty.bytes, full.bytes]).toEqual([matrixBytes(shape, 128), matrixBytes(shape, 128)]);
    expect(() => emptyMatrix(device, { ...shape, columns: 33 })).toThrow(InvalidModelError);
    for (const matrix of [empty, full]) matrix.destroy();
    expect(device.memory.buffers).toBe(0);
  });

  test('a kernel that does not compile is an error with its numbered source; a good one compiles once', async () => {
    const bad = kernel('broken', {}, '@compute @workgroup_size(1)\nfn main() { let x = missing; }');
    await expect(device.pipeline(bad)).rejects.toThrow(UnsupportedFeatureError);
    await expect(device.pipeline(bad)).rejects.toThrow(
      /kernel broken does not compile\nline 2: .*missing[^]* {3}1 @compute[^]* {3}2 fn main/,
    );
    const before = device.pipelines;
    const good = () => kernel('good', {}, '@compute @workgroup_size(1)\nfn main() {}');
    expect(await device.pipeline(good())).toBe(await device.pipeline(good()));
    expect(device.pipelines).toBe(before + 1);
  });
});

describe('a device that goes away', () => {
  test('destroy frees everything, and later use says that it is lost', async () => {
    const device = await testDevice();
    const tensor = device.tensor('f32', [1024]);
    device.destroy();
    expect(device.memory).toEqual({ bytes: 0, buffers: 0 });
    await device.gpu.lost;
    await expect(device.read(tensor)).rejects.toThrow(DeviceLostError);
    expect(() => device.tensor('f32', [1])).toThrow(/the GPU device was lost \(destroyed\)/);
    expect(() => tensor.destroy()).not.toThrow();
  });

  test('a read that was under way fails with DeviceLostError', async () => {
    const device = await testDevice();
    const reading = device.read(device.tensor('f32', [1024]));
    device.gpu.destroy();
    await expect(reading).rejects.toThrow(DeviceLostError);
    device.destroy();
  });
});

describe('tiers', () => {
  test('a tier that does not exist is refused with the list of those that do', async () => {
    const adapter = await testAdapter();
    for (const name of ['fast', 'constructor'])
      expect(() => chooseTier(adapter, name as TierName)).toThrow(
        `tier "${name}" does not exist: use software, plain, subgroups, f16, matrix`,
      );
  });

  test('a tier that the adapter lacks is refused with what is missing and what is there', async () => {
    // Dawn's null backend has every feature but no matrix sizes.
    const adapter = await (await nullGpu()).requestAdapter();
    expect(supportedTiers(adapter!)).toEqual(['software', 'plain', 'subgroups', 'f16']);
    await expect(openDevice(adapter!, { tier: 'matrix' })).rejects.toThrow(
      /tier "matrix" needs subgroups, shader-f16, .* does not offer: use software, plain, subgroups, f16/,
    );
  });

  test('tier matrix is for adapters that list both sizes of products, in f16 and f32, and subgroups of 32', async () => {
    const adapter = await (await nullGpu()).requestAdapter();
    const sized = (
      sizes: readonly (readonly [number, number, number])[],
      result = 'f32',
      subgroups = 32,
    ) => ({
      features: adapter!.features,
      info: {
        ...{ subgroupMinSize: subgroups, subgroupMaxSize: 32 },
        subgroupMatrixConfigs: sizes.map(([M, N, K]) => ({
          ...{ M, N, K, componentType: 'f16', resultComponentType: result },
        })),
      },
    });
    const both = [[16, 16, 16] as const, [16, 8, 8] as const];
    const best = (given: object) => supportedTiers(given as GPUAdapter).at(-1);
    expect(best(sized(both))).toBe('matrix');
    for (const given of [
      sized(both.slice(1)),
      sized(both.slice(0, 1)),
      sized(both, 'f16'),
      sized(both, 'f32', 16),
    ])
      expect(best(given)).toBe('f16');
  });

  test('a CPU driver gets the software tier, another adapter its best, and any tier can be forced', async () => {
    const { info } = await testAdapter();
    expect((await testDevice()).tier.name === 'software').toBe(isSoftware(info));
    expect((await testDevice({ tier: 'subgroups' })).tier).toBe(tiers.subgroups);
    const adapter = await (await nullGpu()).requestAdapter();
    expect(chooseTier(adapter!).name).toBe('f16');
    expect((await nullDevice('matrix')).tier.name).toBe('matrix');
  });
});

test('kernels are put together from a prelude and chunks, and must number their bindings without gaps', () => {
  const code =
    '@group(0) @binding(1) var<storage, read_write> y: array<f32>;\n@group(0) @binding(0) var<uniform> u: vec4u;';
  const made = kernel(
    'k',
    { enable: ['f16'], aliases: { KV: 'f16' }, constants: { N: 3, EPS: '1e-5f' } },
    code,
  );
  expect(made.bindings).toEqual([
    { name: 'u', type: 'uniform' },
    { name: 'y', type: 'storage' },
  ]);
  expect(made.code.startsWith('enable f16;\nalias KV = f16;\nconst N = 3u;\nconst EPS = 1e-5f;\n')).toBe(
    true,
  );
  expect(() => kernel('k', {}, '@group(0) @binding(1) var<storage> x: array<f32>;')).toThrow(
    'has no binding 0',
  );
});
