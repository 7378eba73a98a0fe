import { InvalidModelError } from '@ensample/tensor';
import { narrowF16, widenF16 } from './float-formats.ts';
import { GROUP_SIZE, type HostMatrix } from './host-matrix.ts';
import type { WeightReader } from './weights.ts';

/** Formats that weights can be brought to when a model is loaded: groups of 32 inputs share an f16 scale. */
export type QuantizedFormat = 'int8' | 'int4';

/**
 * A reader that gives the layers' matrices in another format. Embedding and output matrix become int8 in either case:
 * they are a small part of a large model, and each token's logits hang on them directly.
 */
export function quantizedWeights(weights: WeightReader, format: QuantizedFormat): WeightReader {
  return {
    embedding: async () => quantize(await weights.embedding(), 'int8'),
    finalNorm: () => weights.finalNorm(),
    head: async () => {
      const head = await weights.head();
      return head && quantize(head, 'int8');
    },
    layer: async (index) => {
      const layer = await weights.layer(index);
      return {
        ...layer,
        qkv: quantize(layer.qkv, format),
        output: quantize(layer.output, format),
        gateUp: quantize(layer.gateUp, format),
        down: quantize(layer.down, format),
      };
    },
  };
}

/**
 * Rounds a matrix to int8 or int4. A matrix that is int8 already stays as it is for int8, and is rounded once more for
 * int4; int4 is never made finer.
 * @throws InvalidModelError when its columns do not divide into groups of 32.
 */
export function quantize(matrix: HostMatrix, format: QuantizedFormat): HostMatrix {
  const { rows, columns } = matrix;
  if (matrix.format === format || matrix.format === 'int4') return matrix;
  if (columns % GROUP_SIZE !== 0) {
    throw new InvalidModelError(
      `a matrix of ${rows} × ${columns} cannot be stored as ${format}: its columns must be a multiple of ${GROUP_SIZE}`,
    );
  }
  const values = dequantize(matrix);
  const levels = new Int8Array(values.length);
  const scales = new Uint16Array(values.length / GROUP_SIZE);
  for (let group = 0; group < scales.length; group++) {
    const at = GROUP_SIZE * group;
    const own = values.subarray(at, at + GROUP_SIZE);
    scales[group] = roundGroup(own, levels.subarray(at, at + GROUP_SIZE), format === 'int8' ? 127 : 7);
  }
  if (format === 'int8') return { format, rows, columns, data: levels, scales };
  return { format, rows, columns, data: packInt4(levels), scales };
}

/** The values that a matrix stands for, `[rows, columns]`. */
export function dequantize(matrix: HostMatrix): Float32Array<ArrayBuffer> {
  if (matrix.format === 'f32') return matrix.data;
  if (matrix.format === 'f16') return widenF16(matrix.data);
  const scales = widenF16(matrix.scales);
  const levels = matrix.format === 'int8' ? matrix.data : unpackInt4(matrix.data);
  return Float32Array.from(levels, (level, i) => level * (scales[Math.floor(i / GROUP_SIZE)] ?? 0));
}

/**
 * Rounds a group to levels −most − 1 … most, with the value farthest from 0 at the lowest level (which has one more
 * step), then once more with the scale that fits these levels best; the better of both is kept.
 * @returns the scale's f16 bits
 */
function roundGroup(values: Float32Array, levels: Int8Array, most: number): number {
  let farthest = 0;
  for (const value of values) if (Math.abs(value) > Math.abs(farthest)) farthest = value;
  const first = narrowF16(farthest / -(most + 1));
  const firstError = round(values, levels, first, most);
  let product = 0;
  let square = 0;
  levels.forEach((level, i) => {
    product += level * (values[i] ?? 0);
    square += level * level;
  });
  if (square === 0) return first;
  const second = narrowF16(product / square);
  if (round(values, levels, second, most) <= firstError) return second;
  round(values, levels, first, most);
  return first;
}

/** Fills `levels`. @returns the squared error. */
function round(values: Float32Array, levels: Int8Array, scaleBits: number, most: number): number {
  const [scale = 0] = widenF16(Uint16Array.of(scaleBits));
  let error = 0;
  values.forEach((value, i) => {
    const level = scale === 0 ? 0 : Math.max(-most - 1, Math.min(most, Math.round(value / scale)));
    levels[i] = level;
    error += (value - level * scale) ** 2;
  });
  return error;
}

/** Of each eight values, byte i takes value i as its low and value 4 + i as its high half. */
function packInt4(levels: Int8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(levels.length / 2);
  for (let byte = 0; byte < bytes.length; byte++) {
    const at = 8 * (byte >> 2) + (byte & 3);
    bytes[byte] = ((levels[at] ?? 0) & 15) | (((levels[at + 4] ?? 0) & 15) << 4);
  }
  return bytes;
}

function unpackInt4(bytes: Uint8Array): Int8Array<ArrayBuffer> {
  const levels = new Int8Array(2 * bytes.length);
  bytes.forEach((pair, byte) => {
    const at = 8 * (byte >> 2) + (byte & 3);
    levels[at] = (pair << 28) >> 28;
    levels[at + 4] = (pair << 24) >> 28;
  });
  return levels;
}
