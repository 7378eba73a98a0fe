import { kernel, profile, Recorder, type Device, type GpuTensor } from '@ensample/tensor';
import { expectNoErrors, expectNothingAllocated, testDevice } from '@ensample/testing';
import { afterAll, beforeAll, beforeEach, afterEach, expect, test } from 'vitest';

const add = kernel(
  'add',
  {},
  `@group(0) @binding(0) var<storage, read> x: array<f32>;
   @group(0) @binding(1) var<storage, read_write> y: array<f32>;
   @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
     if (id.x < arrayLength(&y)) { y[id.x] += x[id.x] + f32(id.y + 10u * id.z); }
   }`,
);
const double = kernel(
  'double',
  {},
  `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
   @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
     if (id.x < arrayLength(&y)) { y[id.x] *= 2.0; }
   }`,
);

let device: Device;
let x: GpuTensor<'f32'>;
let y: GpuTensor<'f32'>;

beforeAll(async () => {
  device = await testDevice();
});
beforeEach(() => {
  x = device.upload('f32', [4], Float32Array.from([1, 2, 3, 4]));
  y = device.upload('f32', [4], new Float32Array(4));
});
afterEach(async () => {
  x.destroy();
  y.destroy();
  await expectNoErrors(device);
  expectNothingAllocated(device);
});
afterAll(() => device.destroy());

test('a recording runs its dispatches in order, and again at each replay', async () => {
  const recorder = new Recorder(device);
  recorder.run(add, { x, y }, [1]);
  recorder.run(double, { y }, [1]);
  const recording = await recorder.finish();
  expect(recording.names).toEqual(['add', 'double']);
  expect(recording.length).toBe(2);
  for (let replay = 0; replay < 2; replay++) {
    device.write(y, new Float32Array(4));
    recording.submit();
    expect(await device.read(y)).toEqual(Float32Array.from([2, 4, 6, 8]));
  }
  recording.submit(); // from what the last one left
  expect(await device.read(y)).toEqual(Float32Array.from([6, 12, 18, 24]));
});

test('recordings can share an encoder', async () => {
  const recordings = await Promise.all(
    [add, double].map((code) => {
      const recorder = new Recorder(device);
      recorder.run(code, { x, y }, [1]);
      return recorder.finish();
    }),
  );
  const encoder = device.gpu.createCommandEncoder();
  for (const recording of recordings) recording.encode(encoder);
  device.gpu.queue.submit([encoder.finish()]);
  expect(await device.read(y)).toEqual(Float32Array.from([2, 4, 6, 8]));
});

test('grids have up to three dimensions', async () => {
  const seen = kernel(
    'seen',
    {},
    `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
     @compute @workgroup_size(1) fn main(@builtin(workgroup_id) id: vec3u) {
       if (all(id == vec3u(0u, 1u, 1u))) { y[0] = 1.0; }
     }`,
  );
  for (const [grid, hit] of [
    [[1], 0],
    [[1, 2], 0],
    [[1, 2, 2], 1],
  ] as const) {
    device.write(y, new Float32Array(4));
    const recorder = new Recorder(device);
    recorder.run(seen, { y }, grid);
    (await recorder.finish()).submit();
    expect((await device.read(y))[0]).toBe(hit);
  }
});

test('a kernel without one of its tensors is an error that names both', async () => {
  const recorder = new Recorder(device);
  recorder.run(add, { y }, [1]);
  await expect(recorder.finish()).rejects.toThrow('kernel add was run without its tensor "x"');
});

test('a profile has each kernel’s dispatches and time, and leaves nothing allocated', async (context) => {
  if (!device.gpu.features.has('timestamp-query')) context.skip('this driver has no timestamp queries');
  const big = device.tensor('f32', [2 ** 20]);
  const recorder = new Recorder(device);
  recorder.run(double, { y }, [1]);
  for (let i = 0; i < 3; i++) recorder.run(add, { x: big, y }, [1, 100, 10]);
  recorder.run(double, { y: big }, [2 ** 14]);
  const recording = await recorder.finish();
  const held = device.memory;
  const started = performance.now();
  const times = await profile(recording, 3);
  const elapsed = 1000 * (performance.now() - started);
  expect(device.memory).toEqual(held);
  expect(Object.fromEntries(times.map(({ name, count }) => [name, count]))).toEqual({ add: 3, double: 2 });
  expect(times[0]!.microseconds).toBeGreaterThanOrEqual(times[1]!.microseconds);
  expect(times.find(({ name }) => name === 'double')!.microseconds).toBeGreaterThan(10);
  expect(times.reduce((sum, { microseconds }) => sum + microseconds, 0)).toBeLessThan(elapsed);
  expect(await profile(await new Recorder(device).finish())).toEqual([]);
  big.destroy();
});
