import type { HostMatrix, WeightFormat } from '@ensample/tensor';
import { fromHalf, toHalf } from './half.ts';
import type { Random } from './random.ts';

/** A weight matrix as it is uploaded, and the values it stands for. */
export interface TestMatrix {
  readonly host: HostMatrix;
  /** `[rows, columns]` */
  readonly values: Float32Array<ArrayBuffer>;
}

/** Weights that leave a product's operands as they are. */
export function identityMatrix(size: number): HostMatrix {
  const data = new Float32Array(size * size);
  for (let i = 0; i < size; i++) data[i * (size + 1)] = 1;
  return { format: 'f32', rows: size, columns: size, data };
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
  const most = format === 'int8' ? 127 : 7;
  const groups = Array.from({ length: exact.length / 32 }, (_, g) => exact.subarray(32 * g, 32 * g + 32));
  const scales = Uint16Array.from(groups, (group) => toHalf(Math.max(...group.map(Math.abs)) / most));
  const scaleAt = (i: number) => fromHalf(scales[i >> 5] ?? 0);
  const levels = Int8Array.from(exact, (value, i) =>
    Math.round(Math.max(-most - 1, Math.min(most, value / scaleAt(i)))),
  );
  const values = Float32Array.from(levels, (level, i) => level * scaleAt(i));
  if (format === 'int8') return { host: { ...shape, format, data: levels, scales }, values };
  return { host: { ...shape, format, data: packInt4(levels), scales }, values };
}

/** Of each eight values, byte i holds value i in its low and value 4 + i in its high half. */
export function packInt4(levels: Int8Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: levels.length / 2 }, (_, byte) => {
    const at = 8 * (byte >> 2) + (byte & 3);
    return ((levels[at] ?? 0) & 15) | (((levels[at + 4] ?? 0) & 15) << 4);
  });
}
