import type { Device } from '../device.ts';
import { InvalidModelError } from '../errors.ts';
import type { GpuTensor } from '../tensor.ts';
import {
  f16Quad,
  f16Wide,
  f32Quad,
  f32Wide,
  int4Quad,
  int4Wide,
  int8Quad,
  int8Wide,
  panelOrder,
  rowOrder,
} from './matrix.wgsl.ts';
import { inPanels, panelRows } from './panels.ts';

/** How a weight matrix is stored: plain f32, f16, or int8 or int4 in groups of 32 columns with f16 scales. */
export type WeightFormat = 'f32' | 'f16' | 'int8' | 'int4';

/**
 * How weights lie on the GPU: row by row, as their format says, or f16 in panels of 16 rows, `[rows / 16, columns / 8, 16, 8]`,
 * which subgroup matrices take straight from memory (docs/decisions/2026-11-28-weights-in-panels.md).
 */
export type WeightStorage = WeightFormat | 'panels';

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
  readonly storage: WeightStorage;
  readonly rows: number;
  readonly columns: number;
  /** Usually one; more where the matrix is larger than a binding may be. */
  readonly blocks: readonly MatrixBlock[];
  /** Bytes on the GPU. */
  readonly bytes: number;
  destroy(): void;
}

/** Decoding chunk, four values a call. */
export const decodeQuad: Readonly<Record<WeightStorage, string>> = {
  f32: f32Quad,
  f16: f16Quad + rowOrder,
  panels: f16Quad + panelOrder,
  int8: int8Quad,
  int4: int4Quad,
};

/** Decoding chunk, 16 bytes a call. */
export const decodeWide: Readonly<Record<WeightStorage, string>> = {
  f32: f32Wide,
  f16: f16Wide + rowOrder,
  panels: f16Wide + panelOrder,
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
  checkData(host);
  const matrix = emptyMatrix(device, host, maxBlockBytes);
  try {
    let first = 0;
    for (const block of matrix.blocks) {
      const end = first + block.rows;
      if (matrix.storage === 'panels' && host.format === 'f16') writePanels(device, block, host, first);
      else writeBlock(device, host, block, first, end);
      first = end;
    }
  } catch (error) {
    matrix.destroy();
    throw error;
  }
  return matrix;
}

/**
 * A weight matrix of zeros, in the blocks of {@link uploadMatrix}: for weights that are made on the device.
 * @throws InvalidModelError when the number of columns does not suit the format.
 */
export function emptyMatrix(
  device: Device,
  { format, rows, columns }: MatrixShape,
  maxBlockBytes: number = device.maxBindingBytes,
): Matrix {
  checkColumns({ format, rows, columns });
  const blockRows = rowsOfBlock({ format, rows, columns }, maxBlockBytes);
  const storage = storageOf(device, { format, rows, columns }, maxBlockBytes);
  const owned: GpuTensor<'u32'>[] = [];
  const own = (tensor: GpuTensor<'u32'>) => (owned.push(tensor), tensor);
  const words = (bytes: number) => own(device.tensor('u32', [bytes / 4]));
  const destroy = () => owned.forEach((tensor) => tensor.destroy());
  const blocks: MatrixBlock[] = [];
  try {
    for (let first = 0; first < rows; first += blockRows) {
      const height = Math.min(blockRows, rows - first);
      const bytes = blockBytes({ format, rows: height, columns });
      const dims = own(device.uniform([columns, height, rows, first]));
      blocks.push({ rows: height, words: words(bytes.words), scales: words(bytes.scales), dims });
    }
  } catch (error) {
    destroy();
    throw error;
  }
  const bytes = owned.reduce((sum, { byteLength }) => sum + byteLength, 0);
  return { format, storage, rows, columns, blocks, bytes, destroy };
}

/** Rows of a block: whole panels, or where not even one fits, an even number, since pairs of f16 scales must not straddle two. */
export function rowsOfBlock({ format, columns }: MatrixShape, maxBlockBytes: number): number {
  const rows = Math.floor(maxBlockBytes / (columns * bytesPerWeight[format]));
  const multiple = rows < panelRows ? 2 : panelRows;
  return Math.min(maxBlockRows, Math.max(2, rows - (rows % multiple)));
}

/** How a matrix is stored on a device: in panels where subgroup matrices take them and its blocks consist of them. */
export function storageOf({ tier }: Device, shape: MatrixShape, maxBlockBytes: number): WeightStorage {
  const whole = shape.rows % panelRows === 0 && rowsOfBlock(shape, maxBlockBytes) % panelRows === 0;
  return tier.matmul === 'matrix' && shape.format === 'f16' && whole ? 'panels' : shape.format;
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
  const blockRows = rowsOfBlock(shape, maxBlockBytes);
  let sum = 0;
  for (let first = 0; first < shape.rows; first += blockRows) {
    const { words, scales } = blockBytes({ ...shape, rows: Math.min(blockRows, shape.rows - first) });
    sum += words + scales + 16;
  }
  return sum;
}

/** Bytes of a block's words and scales; a format without scales binds one word. */
function blockBytes({ format, rows, columns }: MatrixShape): { words: number; scales: number } {
  const wholeWords = (bytes: number) => 4 * Math.ceil(bytes / 4);
  const values = rows * columns;
  const scaled = format === 'int8' || format === 'int4';
  return {
    words: wholeWords(values * bytesPerWeight[format]),
    scales: scaled ? wholeWords((2 * values) / groupColumns) : 4,
  };
}

function checkColumns({ format, rows, columns }: MatrixShape): void {
  const multiple = columnMultiple[format];
  if (columns % multiple === 0) return;
  throw new InvalidModelError(
    `a ${format} matrix of ${rows} × ${columns} needs a number of columns that is a multiple of ${multiple}`,
  );
}

function checkData(host: HostMatrix): void {
  checkColumns(host);
  const { format, rows, columns, data } = host;
  const what = `a ${format} matrix of ${rows} × ${columns}`;
  const bytes = rows * columns * bytesPerWeight[format];
  if (data.byteLength !== bytes) {
    throw new InvalidModelError(`${what} needs ${bytes} bytes, not ${data.byteLength}`);
  }
  const groups = (rows * columns) / groupColumns;
  if ('scales' in host && host.scales.length !== groups) {
    throw new InvalidModelError(`${what} needs ${groups} scales, not ${host.scales.length}`);
  }
}

function writeBlock(device: Device, host: HostMatrix, block: MatrixBlock, first: number, end: number): void {
  const perRow = host.data.length / host.rows;
  writeWords(device, block.words, host.data.subarray(first * perRow, end * perRow));
  if (!('scales' in host)) return;
  const groups = host.columns / groupColumns;
  writeWords(device, block.scales, host.scales.subarray(first * groups, end * groups));
}

/** Bytes that are brought into order at a time. */
const arrangedBytes = 2 ** 24;

function writePanels(
  device: Device,
  { words, rows }: MatrixBlock,
  { data, columns }: HostMatrix & { format: 'f16' },
  first: number,
): void {
  const step = panelRows * Math.ceil(arrangedBytes / (2 * panelRows * columns));
  for (let row = 0; row < rows; row += step) {
    const end = Math.min(row + step, rows);
    const part = data.subarray((first + row) * columns, (first + end) * columns);
    device.write(words, inPanels(part, columns), 2 * row * columns);
  }
}

function writeWords(device: Device, to: GpuTensor<'u32'>, data: HostMatrix['data']): void {
  const { buffer, byteOffset, byteLength } = data;
  if (byteOffset % 4 === 0 && byteLength % 4 === 0) {
    device.write(to, new Uint32Array(buffer, byteOffset, byteLength / 4));
    return;
  }
  const copy = new Uint8Array(to.byteLength);
  copy.set(new Uint8Array(buffer, byteOffset, byteLength));
  device.write(to, new Uint32Array(copy.buffer));
}
