import { dequantize, type HostMatrix } from '@ensample/mixattn-model';
import {
  createBatch,
  isSoftware,
  matmul,
  partialSums,
  panelRows,
  Recorder,
  rowOfPanels,
  type Device,
  type GpuTensor,
  type Matrix,
  type MatrixBlock,
  type Operand,
} from '@ensample/tensor';
import { weightBytes, type DrawnFormat } from '../synthetic.ts';
import { attempt, type Bench, type GpuOptions, type Job } from './bench.ts';
import { recordingTime } from './repeats.ts';
import { draw, drawMatrix } from './draw.ts';
import type { Row } from './report.ts';

/** Row counts, the most interesting first. */
const rowCounts = [16, 32, 1, 64, 2, 4, 8, 128];

/** A product of a prefill step, where what counts is arithmetic. */
const tall = { rows: 2048, outputs: 12288, columns: 4096 };

/** Weights that take turns, so that none is in a cache when it is read again. */
const pool = { bytes: 400e6, matrices: 2 };

/** Most that a product may be off. */
const allowedError = 1e-2;

/** Outputs (in pairs) and rows of a product that are checked. */
const checkedPairs = 8;
const checkedRows = 8;

/** A product to time. */
export interface Product {
  readonly weights: DrawnFormat;
  readonly rows: number;
  readonly outputs: number;
  readonly columns: number;
}

/** Products Y[M, N] = X[M, K] · W[N, K]ᵀ of each format. */
export function productJobs({ weights, products, n = rowCounts }: GpuOptions): Job[] {
  return weights.flatMap((format, k) =>
    products.map(([outputs, columns], i) => ({
      name: `matmul ${format} ${outputs} × ${columns}`,
      rank: k === 0 ? 1 + i / 100 : 11 + k / 10 + i / 100,
      run: async (bench) => {
        const isTall = outputs === tall.outputs && columns === tall.columns;
        const rows = isTall ? [...n, tall.rows] : n;
        await benchProducts(bench, { weights: format, outputs, columns }, rows);
      },
    })),
  );
}

/**
 * Times products with one shape of weights, and adds the rows.
 * @param multiply the product's `matmul`; tests pass a wrong one
 */
export async function benchProducts(
  bench: Bench,
  shape: Omit<Product, 'rows'>,
  rowCounts: readonly number[],
  multiply: typeof matmul = matmul,
): Promise<void> {
  const { weights, outputs, columns } = shape;
  await withMatrices(bench, shape, async (matrices) => {
    for (const rows of rowCounts) {
      await attempt(bench, `matmul ${weights} ${rows} × ${outputs} × ${columns}`, async () => {
        const room = partialSums(bench.device, rows, outputs);
        await bench.report.add(await productRow(bench, { ...shape, rows }, matrices, { multiply, room }));
      });
    }
  });
}

/** Runs `use` with random weights of a shape, in so many copies that none is in a cache when it is its turn again. */
export async function withMatrices(
  { device }: Bench,
  { weights, outputs, columns }: Omit<Product, 'rows'>,
  use: (matrices: readonly Matrix[]) => Promise<void>,
): Promise<void> {
  const bytes = outputs * columns * weightBytes[weights];
  const count = isSoftware(device.info) ? 1 : Math.ceil(pool.bytes / bytes);
  const matrices: Matrix[] = [];
  try {
    for (let i = 0; i < Math.max(pool.matrices, count); i++) {
      matrices.push(await drawMatrix(device, { format: weights, rows: outputs, columns }, 1000 * (i + 1)));
    }
    await use(matrices);
  } finally {
    for (const matrix of matrices) matrix.destroy();
  }
}

/**
 * Checks and times a product.
 * @param way how to multiply, and elements of room for sums that workgroups share
 * @throws Error where the product is wrong
 */
export async function productRow(
  { device, bandwidth, options }: Bench,
  product: Product,
  matrices: readonly Matrix[],
  { multiply, room }: { readonly multiply: typeof matmul; readonly room: number },
): Promise<Row> {
  const { weights, rows, outputs, columns } = product;
  const batch = createBatch(device, rows);
  device.write(batch, Uint32Array.of(rows));
  const { operands } = device.tier;
  const x = device.tensor(operands, [rows, columns]);
  const y = device.tensor('f32', [rows, outputs]);
  const partial = room > 0 ? device.tensor('f32', [room]) : undefined;
  try {
    await draw(device, [{ tensor: x, values: operands, size: Math.sqrt(3), seed: 5 }]);
    const recorder = new Recorder(device);
    for (const matrix of matrices) multiply(recorder, { batch, x, weights: matrix, y, partial }, { rows });
    const recording = await recorder.finish();
    recording.submit();
    const error = await errorOf(device, { x, y, weights: matrices.at(-1) }, product);
    const ms = await recordingTime(recording, { ...options, least: options.least / 4 });
    const us = (1e3 * ms) / matrices.length;
    const bytes = outputs * columns * weightBytes[weights];
    const floorUs = (1e3 * bytes) / bandwidth;
    const row = { section: 'matmul', weights, rows, outputs, columns, us, tbps: bytes / us / 1e6, error };
    const tflops = rows < tall.rows ? {} : { tflops: (2 * rows * outputs * columns) / us / 1e6 };
    return { ...row, floorUs, share: floorUs / us, ...tflops };
  } finally {
    for (const tensor of [batch, x, y, partial]) tensor?.destroy();
  }
}

/** ‖y − ref‖ / ‖ref‖ over some rows and outputs, first and last among them, in f64. */
async function errorOf(
  device: Device,
  { x, y, weights }: { x: GpuTensor<Operand>; y: GpuTensor<'f32'>; weights: Matrix | undefined },
  { rows, outputs, columns }: Product,
): Promise<number> {
  if (!weights) throw new Error('a product without weights');
  const read = await device.read(x);
  const bits = read instanceof Uint16Array ? new Uint16Array(read) : undefined;
  const xs = bits ? dequantize({ format: 'f16', rows, columns, data: bits }) : read;
  const ys = await device.read(y);
  const pairs = spread(outputs / 2, checkedPairs);
  const w = await readPairs(device, weights, pairs);
  let difference = 0;
  let norm = 0;
  for (const row of spread(rows, checkedRows)) {
    pairs.forEach((pair, p) => {
      for (const half of [0, 1]) {
        let sum = 0;
        const at = (2 * p + half) * columns;
        for (let k = 0; k < columns; k++) sum += (xs[row * columns + k] ?? NaN) * (w[at + k] ?? NaN);
        difference += ((ys[row * outputs + 2 * pair + half] ?? NaN) - sum) ** 2;
        norm += sum ** 2;
      }
    });
  }
  const error = Math.sqrt(difference / norm);
  if (!(error <= allowedError)) throw new Error(`the product is wrong by ${error}; it was not timed`);
  return error;
}

/** Up to `count` of 0 … length − 1, first and last among them. */
function spread(length: number, count: number): number[] {
  const steps = Math.max(1, Math.min(count, length) - 1);
  return [...new Set(Array.from({ length: steps + 1 }, (_, i) => Math.floor((i * (length - 1)) / steps)))];
}

/** Rows 2p and 2p + 1 of a matrix for each p, dequantised. In pairs, since two rows of scales are whole words. */
async function readPairs(device: Device, matrix: Matrix, pairs: readonly number[]): Promise<Float32Array> {
  const { columns } = matrix;
  const values = new Float32Array(2 * pairs.length * columns);
  for (const [i, pair] of pairs.entries()) {
    const block = matrix.blocks.find(({ rows }, b) => 2 * pair - firstRow(matrix, b) < rows);
    if (!block) throw new Error(`no row ${2 * pair} in a matrix of ${matrix.rows}`);
    const row = 2 * pair - firstRow(matrix, matrix.blocks.indexOf(block));
    values.set(dequantize(await readPair(device, matrix, block, row)), 2 * i * columns);
  }
  return values;
}

function firstRow({ blocks }: Matrix, block: number): number {
  return blocks.slice(0, block).reduce((sum, { rows }) => sum + rows, 0);
}

async function readPair(
  device: Device,
  matrix: Matrix,
  block: MatrixBlock,
  row: number,
): Promise<HostMatrix> {
  const { rows } = block;
  const { columns } = matrix;
  if (matrix.storage === 'panels') {
    const own = row % panelRows;
    const panel = new Uint16Array(await readRows(device, block.words, (row - own) / rows, panelRows / rows));
    const data = new Uint16Array(2 * columns);
    for (const half of [0, 1]) data.set(rowOfPanels(panel, columns, own + half), half * columns);
    return { rows: 2, columns, format: 'f16', data };
  }
  const words = await readRows(device, block.words, row / rows, 2 / rows);
  return hostMatrix(matrix, words, () => readRows(device, block.scales, row / rows, 2 / rows));
}

/** A part of a tensor, given as shares of it. */
async function readRows(
  device: Device,
  { buffer, byteLength }: GpuTensor<'u32'>,
  first: number,
  share: number,
): Promise<ArrayBuffer> {
  const bytes = Math.round(share * byteLength);
  const part = device.tensor('u32', [bytes / 4]);
  try {
    const encoder = device.gpu.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, Math.round(first * byteLength), part.buffer, 0, bytes);
    device.gpu.queue.submit([encoder.finish()]);
    return (await device.read(part)).buffer;
  } finally {
    part.destroy();
  }
}

async function hostMatrix(
  { format, columns }: Matrix,
  words: ArrayBuffer,
  scales: () => Promise<ArrayBuffer>,
): Promise<HostMatrix> {
  const shape = { rows: 2, columns };
  switch (format) {
    case 'f32':
      return { ...shape, format, data: new Float32Array(words) };
    case 'f16':
      return { ...shape, format, data: new Uint16Array(words) };
    case 'int8':
      return { ...shape, format, data: new Int8Array(words), scales: new Uint16Array(await scales()) };
    case 'int4':
      return { ...shape, format, data: new Uint8Array(words), scales: new Uint16Array(await scales()) };
  }
}
