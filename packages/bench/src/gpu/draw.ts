import type { KvCache } from '@ensample/kv-cache';
import {
  emptyMatrix,
  kernel,
  Recorder,
  type Device,
  type GpuTensor,
  type Matrix,
  type MatrixShape,
} from '@ensample/tensor';
import { drawBits, drawBody, drawF16, drawF32, drawScales } from './draw.wgsl.ts';

/** Values that can be drawn on a device. */
export type DrawnValues = 'f16' | 'f32' | 'bits' | 'scales';

const chunks: Readonly<Record<DrawnValues, string>> = {
  f16: drawF16,
  f32: drawF32,
  bits: drawBits,
  scales: drawScales,
};

/** A tensor to fill. */
export interface Drawing {
  readonly tensor: GpuTensor;
  readonly values: DrawnValues;
  /** Largest value. */
  readonly size: number;
  readonly seed: number;
}

/** Fills tensors with random values, on the device. */
export async function draw(device: Device, drawings: readonly Drawing[]): Promise<void> {
  const recorder = new Recorder(device);
  const settings = drawings.map(({ tensor, values, size, seed }) => {
    const count = tensor.buffer.size / 4;
    const [sizeBits = 0] = new Uint32Array(Float32Array.of(size).buffer);
    const setting = device.uniform([count, seed, sizeBits]);
    const groups = Math.min(65535, Math.ceil(count / 256));
    recorder.run(kernel(`draw_${values}`, {}, chunks[values], drawBody), { words: tensor, setting }, [
      groups,
    ]);
    return setting;
  });
  (await recorder.finish()).submit();
  for (const setting of settings) setting.destroy();
}

/** Largest integer of a format, where it has scales. */
const levels = { int8: 127, int4: 7 } as const;

/**
 * A matrix with random weights, uniform and such that sums over a row of unit values have unit variance: activations
 * keep their size from layer to layer.
 */
export async function drawMatrix(device: Device, shape: MatrixShape, seed: number): Promise<Matrix> {
  const { format, columns } = shape;
  const size = Math.sqrt(3 / columns);
  const matrix = emptyMatrix(device, shape);
  const drawings = matrix.blocks.flatMap(({ words, scales }, i): Drawing[] => {
    const own = { size, seed: seed + 2 * i };
    if (format === 'f16' || format === 'f32') return [{ ...own, tensor: words, values: format }];
    const scale = {
      tensor: scales,
      values: 'scales',
      size: size / levels[format],
      seed: own.seed + 1,
    } as const;
    return [{ ...own, tensor: words, values: 'bits' }, scale];
  });
  await draw(device, drawings);
  return matrix;
}

/** Size of drawn keys and values: attention to them is neither flat nor a single key's. */
const kvSize = 2;

/** Fills all pages of a cache: a prompt of any length without prefill. */
export async function drawKv(cache: KvCache): Promise<void> {
  const buffers = cache.pools.flatMap(({ slabs }) => slabs.flatMap((slab) => slab.buffers));
  const drawing = { values: cache.dtype, size: kvSize } as const;
  await draw(
    cache.device,
    buffers.map((tensor, i) => ({ tensor, ...drawing, seed: 7001 + i })),
  );
}
