import type { Device } from '../device.ts';
import { InvalidModelError } from '../errors.ts';
import type { GpuTensor } from '../tensor.ts';
import { f16Quad, f16Wide, f32Quad, f32Wide, int4Quad, int4Wide, int8Quad, int8Wide } from './matrix.wgsl.ts';

/** How a weight matrix is stored: plain f32, f16, or int8 or int4 in groups of 32 columns with f16 scales. */
export type WeightFormat = 'f32' | 'f16' | 'int8' | 'int4';

/** A weight matrix on the host, row-major `[rows, columns]`; f16 as bits. */
export type HostMatrix = { readonly rows: number; readonly columns: number } & (
  | { readonly format: 'f32'; readonly data: Float32Array }
  | { readonly format: 'f16'; readonly data: Uint16Array }
  | {
      readonly format: 'int8';
      readonly data: Int8Array;
      /** f16 bits, `[rows, columns / 32]`; value = data · scale. */
      readonly scales: Uint16Array;
    }
  | {
      readonly format: 'int4';
      /**
       * `[rows, columns / 2]`: of each eight columns, byte i holds column i in its low and column 4 + i in its high
       * half, from −8 to 7 in two's complement. So a word of four bytes unpacks to two vectors without shuffling.
       */
      readonly data: Uint8Array;
      readonly scales: Uint16Array;
    }
);

/** A run of rows of a matrix that fits in one binding. */
export interface MatrixBlock {
  readonly rows: number;
  readonly words: GpuTensor<'u32'>;
  readonly scales: GpuTensor<'u32'>;
  /** Uniform: columns, rows of this block, output stride, first row. */
  readonly dims: GpuTensor<'u32'>;
}

/** A weight matrix `[rows, columns]` (outputs × inputs) on the GPU. */
export interface Matrix {
  readonly format: WeightFormat;
  readonly rows: number;
  readonly columns: number;
  /** Usually one; more where the matrix is larger than a binding may be. */
  readonly blocks: readonly MatrixBlock[];
  /** Bytes on the GPU. */
  readonly bytes: number;
  destroy(): void;
}

/** Decoding chunk per format, four values a call. */
export const decodeQuad: Readonly<Record<WeightFormat, string>> = {
  f32: f32Quad,
  f16: f16Quad,
  int8: int8Quad,
  int4: int4Quad,
};

/** Decoding chunk per format, 16 bytes a call. */
export const decodeWide: Readonly<Record<WeightFormat, string>> = {
  f32: f32Wide,
  f16: f16Wide,
  int8: int8Wide,
  int4: int4Wide,
};

/** The number of columns must be a multiple of this. */
export const columnMultiple: Readonly<Record<WeightFormat, number>> = {
  f32: 4,
  f16: 8,
  int8: 32,
  int4: 32,
};

/** Bytes of a value, without scales. */
const bytesPerWeight: Readonly<Record<WeightFormat, number>> = { f32: 4, f16: 2, int8: 1, int4: 0.5 };

/** Columns that share a scale, in the formats that have one. */
const groupColumns = 32;

/** A dispatch has at most 65 535 workgroups, and products compute as few as 4 outputs in one. */
const maxBlockRows = 2 ** 17;

/**
 * Uploads a weight matrix, in blocks of rows where it is larger than a binding. On failure nothing stays on the device.
 * @param maxBlockBytes default: what the device can bind.
 * @throws InvalidModelError when the number of columns does not suit the format, or data and shape differ in size.
 */
export function uploadMatrix(
  device: Device,
  host: HostMatrix,
  maxBlockBytes: number = device.maxBindingBytes,
): Matrix {
  checkShape(host);
  const { format, rows, columns } = host;
  const blockRows = rowsOfBlock(host, maxBlockBytes);
  const blocks: MatrixBlock[] = [];
  const destroy = () => {
    for (const block of blocks) for (const t of [block.words, block.scales, block.dims]) t.destroy();
  };
  try {
    for (let first = 0; first < rows; first += blockRows) {
      blocks.push(uploadBlock(device, host, first, Math.min(rows, first + blockRows)));
    }
  } catch (error) {
    destroy();
    throw error;
  }
  const bytes = blocks.reduce(
    (sum, b) => sum + b.words.byteLength + b.scales.byteLength + b.dims.byteLength,
    0,
  );
  return { format, rows, columns, blocks, bytes, destroy };
}

/** Rows of a block; pairs of f16 scales must not straddle two, hence an even number. */
function rowsOfBlock({ format, columns }: MatrixShape, maxBlockBytes: number): number {
  const rowBytes = columns * bytesPerWeight[format];
  return Math.min(maxBlockRows, Math.max(2, Math.floor(maxBlockBytes / rowBytes) & ~1));
}

/** What the size of a matrix follows from. */
export interface MatrixShape {
  readonly format: WeightFormat;
  readonly rows: number;
  readonly columns: number;
}

/**
 * Bytes that {@link uploadMatrix} takes on a device.
 * @param maxBlockBytes what the device can bind.
 */
export function matrixBytes(shape: MatrixShape, maxBlockBytes: number): number {
  const { format, rows, columns } = shape;
  const blockRows = rowsOfBlock(shape, maxBlockBytes);
  const words = (bytes: number) => 4 * Math.ceil(bytes / 4);
  let sum = 0;
  for (let first = 0; first < rows; first += blockRows) {
    const values = Math.min(blockRows, rows - first) * columns;
    const scales = format === 'int8' || format === 'int4' ? words((2 * values) / groupColumns) : 4;
    sum += words(values * bytesPerWeight[format]) + scales + 16;
  }
  return sum;
}

function checkShape(host: HostMatrix): void {
  const { format, rows, columns, data } = host;
  const what = `a ${format} matrix of ${rows} × ${columns}`;
  const multiple = columnMultiple[format];
  if (columns % multiple !== 0) {
    throw new InvalidModelError(`${what} needs a number of columns that is a multiple of ${multiple}`);
  }
  const bytes = rows * columns * bytesPerWeight[format];
  if (data.byteLength !== bytes) {
    throw new InvalidModelError(`${what} needs ${bytes} bytes, not ${data.byteLength}`);
  }
  const groups = (rows * columns) / groupColumns;
  if ('scales' in host && host.scales.length !== groups) {
    throw new InvalidModelError(`${what} needs ${groups} scales, not ${host.scales.length}`);
  }
}

function uploadBlock(device: Device, host: HostMatrix, first: number, end: number): MatrixBlock {
  const { columns } = host;
  const rows = end - first;
  const perRow = host.data.length / host.rows;
  const data = host.data.subarray(first * perRow, end * perRow);
  const groups = columns / groupColumns;
  const scales = 'scales' in host ? host.scales.subarray(first * groups, end * groups) : new Uint16Array(2);
  return {
    rows,
    words: uploadWords(device, data),
    scales: uploadWords(device, scales),
    dims: device.uniform([columns, rows, host.rows, first]),
  };
}

function uploadWords(device: Device, data: HostMatrix['data']): GpuTensor<'u32'> {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const aligned = bytes.byteLength % 4 === 0 && bytes.byteOffset % 4 === 0;
  if (aligned)
    return device.upload(
      'u32',
      [bytes.byteLength / 4],
      new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4),
    );
  const copy = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
  copy.set(bytes);
  return device.upload('u32', [copy.byteLength / 4], new Uint32Array(copy.buffer));
}
