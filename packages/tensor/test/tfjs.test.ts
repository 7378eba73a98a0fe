import { InvalidOptionError, kernel, type Device } from '@ensample/tensor';
import { fromTfjs, shareDevice, toTfjs } from '@ensample/tensor/tfjs';
import {
  compute,
  expectClose,
  expectNoErrors,
  expectNothingAllocated,
  matmulReference,
  seeded,
  testDevice,
  tolerance,
} from '@ensample/testing';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';

let device: Device;
beforeAll(async () => {
  device = await testDevice();
  expect(() => toTfjs(device, device.tensor('f32', [1]))).toThrow('call shareDevice(device) first');
  device.destroy();
  device = await testDevice();
  await shareDevice(device);
});
afterEach(() => expectNoErrors(device));
afterAll(() => {
  expectNothingAllocated(device);
  tf.removeBackend('webgpu');
  device.destroy();
});

test('sharing is idempotent, and leaves no navigator.gpu behind in Node', async () => {
  const backend = tf.backend();
  await shareDevice(device);
  expect(tf.backend()).toBe(backend);
  expect((globalThis as { navigator?: { gpu?: unknown } }).navigator?.gpu).toBeUndefined();
});

test('our tensors go in without a copy, results come out as our tensors', async () => {
  const random = seeded(1);
  // Large enough that TensorFlow.js does not compute on the host.
  const [a, b] = [random.normals(40 * 36), random.normals(44 * 36)];
  const x = device.upload('f32', [40, 36], a);
  const w = device.upload('f32', [44, 36], b);
  const held = device.memory;

  const inputs = [toTfjs(device, x), toTfjs(device, w)] as const;
  const before = tf.memory().numTensors;
  const product = tf.matMul(...inputs, false, true);
  const y = await fromTfjs(device, product);
  expect(device.memory).toEqual(held); // the copy is in TensorFlow.js's account
  expect(y).toMatchObject({ dtype: 'f32', shape: [40, 44], byteLength: 4 * 40 * 44 });
  const expected = matmulReference(a, b, 36);
  expectClose(await device.read(y), expected, tolerance.f32);

  // The memory is the same: what we write, TensorFlow.js reads.
  device.write(x, Float32Array.from([7, 8]));
  expect((await tf.slice(inputs[0], [0, 0], [1, 2]).data()).join()).toBe('7,8');

  // And our kernels take what came out.
  const half = kernel(
    'half',
    {},
    `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
     @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
       if (id.x < arrayLength(&y)) { y[id.x] *= 0.5; }
     }`,
  );
  await compute(device, (pass) => pass.run(half, { y }, [Math.ceil((40 * 44) / 64)]));
  expectClose(
    await device.read(y),
    expected.map((value) => value / 2),
    tolerance.f32,
  );

  product.dispose();
  for (const input of inputs) input.dispose();
  expect((await device.read(x))[1]).toBe(8); // our tensors are alive
  const inGpu = () => (tf.memory() as unknown as { numBytesInGPU: number }).numBytesInGPU;
  const bytes = inGpu();
  y.destroy();
  y.destroy();
  expect(inGpu()).toBe(bytes - y.byteLength);
  expect(tf.memory().numTensors).toBe(before - 1); // all but the slice above
  x.destroy();
  w.destroy();
});

test('host data and int32 come out too; what TensorFlow.js cannot hold is refused', async () => {
  const host = tf.tensor1d([1, -2, 3], 'int32');
  const ids = await fromTfjs(device, host);
  expect(ids.dtype).toBe('i32');
  expect(await device.read(ids)).toEqual(Int32Array.from([1, -2, 3]));
  const tokens = device.upload('u32', [2], Uint32Array.from([5, 6]));
  const seen = toTfjs(device, tokens);
  expect(Array.from(await seen.data())).toEqual([5, 6]);

  await expect(fromTfjs(device, tf.tensor1d([true], 'bool'))).rejects.toThrow(InvalidOptionError);
  const halves = device.tensor('f16', [2]);
  expect(() => toTfjs(device, halves)).toThrow('TensorFlow.js has no f16 tensors');
  for (const owned of [ids, tokens, halves]) owned.destroy();
  tf.dispose([host, seen]);
});
