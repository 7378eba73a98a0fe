import { WebGPUBackend } from '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs-core';
import type { Device } from './device.ts';
import { InvalidOptionError } from './errors.ts';
import type { GpuTensor } from './tensor.ts';

/**
 * Makes TensorFlow.js compute on this device: its WebGPU backend is registered anew with our GPUDevice and becomes the
 * current backend. Tensors of an earlier WebGPU backend are lost. Sharing the same device again does nothing.
 *
 * Both libraries put commands into one queue, in the order in which they submit them, and TensorFlow.js submits late:
 * before our kernels write a tensor again that TensorFlow.js is reading, wait for its result (`await result.data()`).
 */
export async function shareDevice(device: Device): Promise<void> {
  if (backendOf(device)) return;
  const earlier: unknown = tf.findBackendFactory('webgpu'); // null without one, whatever its type says
  if (earlier) tf.removeBackend('webgpu');
  const backend = withWebGpuInNavigator(() => new WebGPUBackend(device.gpu, device.info));
  tf.registerBackend('webgpu', () => backend);
  await tf.setBackend('webgpu');
}

/**
 * A TensorFlow.js tensor over the same memory: nothing is copied. Disposing of it leaves our tensor alive; our tensor
 * must outlive it. `u32` is read as `int32`, which differs from 2³¹ on only.
 * @throws InvalidOptionError for f16, which TensorFlow.js does not have, and before {@link shareDevice}.
 */
export function toTfjs(device: Device, tensor: GpuTensor): tf.Tensor {
  if (tensor.dtype === 'f16')
    throw new InvalidOptionError('TensorFlow.js has no f16 tensors: convert to f32 first');
  sharedBackend(device);
  const dtype = tensor.dtype === 'f32' ? 'float32' : 'int32';
  return tf.tensor({ buffer: tensor.buffer, zeroCopy: true }, [...tensor.shape], dtype);
}

/**
 * A copy of a TensorFlow.js tensor for our kernels: one copy on the GPU, none through the host unless the data are
 * there. The memory is TensorFlow.js's: `tf.memory().numBytesInGPU` counts it, `device.memory` does not, and
 * `destroy` gives it back to TensorFlow.js. The tensor copied stays the caller's.
 * @throws InvalidOptionError for a dtype other than float32 and int32, and before {@link shareDevice}.
 */
export async function fromTfjs(device: Device, tensor: tf.Tensor): Promise<GpuTensor<'f32' | 'i32'>> {
  const dtype = tensor.dtype === 'float32' ? 'f32' : tensor.dtype === 'int32' ? 'i32' : undefined;
  if (!dtype)
    throw new InvalidOptionError(
      `a TensorFlow.js tensor of ${tensor.dtype} must be cast to float32 or int32`,
    );
  const backend = sharedBackend(device);
  const source = backend.tensorMap.has(tensor.dataId) ? tensor : await moved(tensor);
  backend.uploadToGPU(source.dataId); // does nothing where the data are on the GPU
  const { tensorRef, buffer } = source.dataToGPU();
  if (source !== tensor) source.dispose();
  if (!buffer) throw new InvalidOptionError('TensorFlow.js gave no buffer for this tensor');
  const copy = tf.keep(tensorRef);
  return { dtype, shape: tensor.shape, buffer, byteLength: 4 * tensor.size, destroy: () => copy.dispose() };
}

/** A tensor of another backend, on the current one. */
async function moved(tensor: tf.Tensor): Promise<tf.Tensor> {
  return tf.tensor(await tensor.data<'float32' | 'int32'>(), tensor.shape, tensor.dtype);
}

function backendOf(device: Device): WebGPUBackend | undefined {
  const backend = tf.findBackend('webgpu');
  return backend instanceof WebGPUBackend && backend.device === device.gpu ? backend : undefined;
}

function sharedBackend(device: Device): WebGPUBackend {
  const backend = backendOf(device);
  if (!backend || tf.getBackend() !== 'webgpu') {
    throw new InvalidOptionError(
      'TensorFlow.js does not compute on this device: call shareDevice(device) first',
    );
  }
  return backend;
}

/** TensorFlow.js asks for `navigator.gpu` when its backend is made, though it is handed a device; Node has none. */
function withWebGpuInNavigator<T>(make: () => T): T {
  const root = globalThis as { navigator?: { gpu?: unknown } };
  if (root.navigator?.gpu) return make();
  const [owner, key, value] = root.navigator ? [root.navigator, 'gpu', {}] : [root, 'navigator', { gpu: {} }];
  Object.defineProperty(owner, key, { value, configurable: true });
  try {
    return make();
  } finally {
    Reflect.deleteProperty(owner, key);
  }
}
