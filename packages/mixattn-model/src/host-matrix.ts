import { InvalidModelError } from '@ensample/tensor';

/** Values a weight group shares one scale with, along the input. */
export const GROUP_SIZE = 32;

interface Shape {
  /** Outputs. */
  rows: number;
  /** Inputs. */
  columns: number;
}

/**
 * A weight matrix in host memory, [rows, columns], rows outermost. f16 values are their bits.
 * int8 and int4: value = data × scale, with one f16 scale for 32 columns (`scales` is [rows, columns / 32]); how int4
 * packs two values in a byte is said at `HostMatrix` of `@ensample/tensor`.
 */
export type HostMatrix = Shape &
  (
    | { format: 'f32'; data: Float32Array<ArrayBuffer> }
    | { format: 'f16'; data: Uint16Array<ArrayBuffer> }
    | { format: 'int8'; data: Int8Array<ArrayBuffer>; scales: Uint16Array<ArrayBuffer> }
    | { format: 'int4'; data: Uint8Array<ArrayBuffer>; scales: Uint16Array<ArrayBuffer> }
  );

/**
 * Stacks matrices: the rows of the first, then those of the second, and so on. One matmul then serves them all.
 *
 * @throws InvalidModelError where formats or column counts differ
 */
export function concatRows(matrices: readonly [HostMatrix, ...HostMatrix[]]): HostMatrix {
  return stack(matrices, 1);
}

/**
 * Stacks matrices of as many rows each, taking a row of each in turn: row 0 of the first, row 0 of the second, …, row 1
 * of the first. One product then has what belongs together in neighbouring outputs.
 *
 * @throws InvalidModelError where formats, row or column counts differ
 */
export function interleaveRows(matrices: readonly [HostMatrix, ...HostMatrix[]]): HostMatrix {
  const [first] = matrices;
  const odd = matrices.find((matrix) => matrix.rows !== first.rows);
  if (odd) {
    throw new InvalidModelError(
      `Matrices whose rows take turns must have as many: got ${describe(first)} and ${describe(odd)}.`,
    );
  }
  return stack(matrices, first.rows);
}

/** Cuts each matrix into equal runs of rows, and takes a run of each in turn. */
function stack(matrices: readonly [HostMatrix, ...HostMatrix[]], runs: number): HostMatrix {
  const [first] = matrices;
  const { format, columns } = first;
  const odd = matrices.find((matrix) => matrix.format !== format || matrix.columns !== columns);
  if (odd) {
    throw new InvalidModelError(
      `Matrices used together must have one format and width: got ${describe(first)} and ${describe(odd)}. Store both in the same dtype.`,
    );
  }
  const data = matrices.map((matrix) => matrix.data);
  const scales = matrices.flatMap((matrix) => ('scales' in matrix ? [matrix.scales] : []));
  const shape = { rows: matrices.reduce((sum, matrix) => sum + matrix.rows, 0), columns };
  switch (format) {
    case 'f32':
      return { format, ...shape, data: join(Float32Array, data, runs) };
    case 'f16':
      return { format, ...shape, data: join(Uint16Array, data, runs) };
    case 'int8':
      return { format, ...shape, data: join(Int8Array, data, runs), scales: join(Uint16Array, scales, runs) };
    case 'int4':
      return {
        format,
        ...shape,
        data: join(Uint8Array, data, runs),
        scales: join(Uint16Array, scales, runs),
      };
  }
}

/**
 * Brings the rows of each head, `size` of them, to the order first, first of its second half, second, …: what rotate-half RoPE
 * turns together are neighbours then.
 */
export function interleaveHalves(matrix: HostMatrix, size: number): HostMatrix {
  const from = (row: number) => {
    const at = row % size;
    return row - at + (at % 2) * (size / 2) + (at >> 1);
  };
  switch (matrix.format) {
    case 'f32':
      return { ...matrix, data: permuteRows(matrix.data, matrix.rows, from) };
    case 'f16':
      return { ...matrix, data: permuteRows(matrix.data, matrix.rows, from) };
    case 'int8':
      return {
        ...matrix,
        data: permuteRows(matrix.data, matrix.rows, from),
        scales: permuteRows(matrix.scales, matrix.rows, from),
      };
    case 'int4':
      return {
        ...matrix,
        data: permuteRows(matrix.data, matrix.rows, from),
        scales: permuteRows(matrix.scales, matrix.rows, from),
      };
  }
}

interface Rows<T> {
  readonly length: number;
  slice(): T;
  subarray(begin: number, end: number): T;
  set(values: T, offset: number): void;
}

function permuteRows<T extends Rows<T>>(values: T, rows: number, from: (row: number) => number): T {
  const width = values.length / rows;
  const permuted = values.slice();
  for (let row = 0; row < rows; row++) {
    permuted.set(values.subarray(from(row) * width, (from(row) + 1) * width), row * width);
  }
  return permuted;
}

function describe(matrix: HostMatrix): string {
  return `${matrix.format} [${matrix.rows}, ${matrix.columns}]`;
}

interface Settable {
  set(values: ArrayLike<number>, offset: number): void;
}

interface Divisible {
  readonly length: number;
  subarray(begin: number, end: number): ArrayLike<number>;
}

function join<T extends Settable>(
  Type: new (length: number) => T,
  parts: readonly Divisible[],
  runs: number,
): T {
  const all = new Type(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (let run = 0; run < runs; run++) {
    for (const part of parts) {
      const size = part.length / runs;
      all.set(part.subarray(run * size, (run + 1) * size), offset);
      offset += size;
    }
  }
  return all;
}
