import type { Device, GpuTensor } from '@ensample/tensor';
import { fromHalf, toHalf } from './half.ts';

type Values = Float32Array<ArrayBuffer>;

/** What is left of values in a tensor of this type; those too large for f16 become its largest. */
export function storedValues(dtype: 'f32' | 'f16', values: Values): Values {
  if (dtype === 'f32') return values;
  return values.map((value) => fromHalf(toHalf(Math.max(-65504, Math.min(65504, value)))));
}

/** A tensor of these values, rounded to its type. */
export function uploadValues<D extends 'f32' | 'f16'>(
  device: Device,
  dtype: D,
  shape: readonly number[],
  values: Values,
): GpuTensor<D> {
  return device.upload(dtype, shape, dtype === 'f16' ? Uint16Array.from(values, toHalf) : values);
}

/** Reads a tensor of either type as numbers. */
export async function readValues(device: Device, tensor: GpuTensor<'f32' | 'f16'>): Promise<Values> {
  const data = await device.read(tensor);
  return tensor.dtype === 'f16' ? Float32Array.from(data, fromHalf) : Float32Array.from(data);
}
