import type { HostMatrix, WeightFormat } from '@ensample/tensor';
import { fromHalf, toHalf } from './half.ts';
import type { Random } from './random.ts';

/** A weight matrix as it is uploaded, and the values it stands for. */
export interface TestMatrix {
  readonly host: HostMatrix;
  /** `[rows, columns]` */
  readonly values: Float32Array<ArrayBuffer>;
}

/** A random matrix in a storage format; `values` are what the stored words mean, exactly. */
export function randomMatrix(
  random: Random,
  format: WeightFormat,
  rows: number,
  columns: number,
): TestMatrix {
  const exact = random.normals(rows * columns);
  const shape = { rows, columns };
  if (format === 'f32') return { host: { ...shape, format, data: exact }, values: exact };
  if (format === 'f16') {
    const data = Uint16Array.from(exact, toHalf);
    return { host: { ...shape, format, data }, values: Float32Array.from(data, fromHalf) };
  }
  const groups = Array.from({ length: exact.length / 32 }, (_, g) => exact.subarray(32 * g, 32 * g + 32));
  const scales = Uint16Array.from(groups, (group) => toHalf(Math.max(...group.map(Math.abs)) / 127));
  const scaleAt = (i: number) => fromHalf(scales[i >> 5] ?? 0);
  const data = Int8Array.from(exact, (value, i) =>
    Math.round(Math.max(-128, Math.min(127, value / scaleAt(i)))),
  );
  const values = Float32Array.from(data, (value, i) => value * scaleAt(i));
  return { host: { ...shape, format, data, scales }, values };
}
