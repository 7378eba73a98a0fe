import type { Tier } from '../capabilities.ts';
import { invariant } from '../errors.ts';
import { kernel, type Kernel, type Prelude } from '../kernel.ts';
import type { Grid, Pass } from '../pass.ts';
import type { GpuTensor } from '../tensor.ts';
import type { Batch } from './elementwise.ts';
import { decodeQuad, decodeWide, type Matrix, type WeightFormat } from './matrix.ts';
import { matrixBody } from './matmul-matrix.wgsl.ts';
import { thread1, thread4, thread8, threadHead } from './matmul-thread.wgsl.ts';
import { accumulate, assign, gated, productBindings, tileBody, vectorBody } from './matmul.wgsl.ts';
import { narrowChunk, operandPrelude, type Operand } from './operand.ts';
import { reducingKernel } from './reduce.ts';

/**
 * How a product is stored: it replaces what is in y, it is added to it (a residual connection), or it leaves as
 * SwiGLU, silu(gate) · up, where the rows of W are gate and up in turns and y is half as wide.
 */
export type Store = 'assign' | 'accumulate' | 'gated';

/** What a kernel is made for: how weights are stored, how results, and the element types of x and y. */
interface Product {
  readonly format: WeightFormat;
  readonly store: Store;
  readonly x: Operand;
  readonly y: Operand;
}

/** A way to multiply: its kernel, and the grid for N outputs and up to M rows. */
interface Variant {
  /** Most rows it is meant for. */
  readonly rows: number;
  kernel(tier: Tier, product: Product): Kernel;
  grid(outputs: number, rows: number): Grid;
}

const stores: Readonly<Record<Store, string>> = { assign, accumulate, gated };

/** What all variants have behind the decoding of weights. */
function common({ store, y }: Product): string[] {
  return [productBindings, narrowChunk[y], stores[store]];
}

function types({ x, y }: Product): Prelude {
  return operandPrelude({ X: x, Y: y });
}

function vector(rows: number): Variant {
  return {
    rows,
    kernel: (tier, product) =>
      reducingKernel(
        tier,
        `matmul_vector${rows}_${product.format}`,
        { ...types(product), constants: { ROWS: rows } },
        decodeWide[product.format],
        ...common(product),
        vectorBody,
      ),
    grid: (outputs) => [Math.ceil(outputs / 4)],
  };
}

function thread(rows: number, body: string): Variant {
  return {
    rows,
    kernel: (_tier, product) =>
      kernel(
        `matmul_thread${rows}_${product.format}`,
        types(product),
        decodeQuad[product.format],
        ...common(product),
        threadHead,
        body,
      ),
    grid: (outputs, m) => [Math.ceil(outputs / 4 / 32), Math.ceil(m / rows)],
  };
}

function tile(rowTile: number, rows: number): Variant {
  return {
    rows,
    kernel: (_tier, product) =>
      kernel(
        `matmul_tile${16 * rowTile}_${product.format}`,
        { ...types(product), constants: { ROW_TILE: rowTile } },
        decodeQuad[product.format],
        ...common(product),
        tileBody,
      ),
    grid: (outputs, m) => [Math.ceil(outputs / 64), Math.ceil(m / (16 * rowTile))],
  };
}

function matrix(rowTiles: number, columnTile: number, rows: number): Variant {
  return {
    rows,
    kernel: (_tier, product) =>
      kernel(
        `matmul_matrix${16 * rowTiles}_${product.format}`,
        {
          ...types(product),
          enable: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
          directives: ['diagnostic(off, chromium.subgroup_matrix_uniformity);'],
          constants: { ROW_TILES: rowTiles, COLUMN_TILE: columnTile },
        },
        decodeQuad[product.format],
        ...common(product),
        matrixBody,
      ),
    grid: (outputs, m) => [Math.ceil(outputs / 64), Math.ceil(m / (16 * rowTiles))],
  };
}

/** Per tier, by row count: the first variant meant for that many rows is taken. */
const variants: Readonly<Record<Tier['matmul'], readonly Variant[]>> = {
  thread: [thread(1, thread1), thread(4, thread4), { ...thread(8, thread8), rows: Infinity }],
  tile: [vector(1), vector(2), vector(4), tile(1, 48), tile(4, Infinity)],
  matrix: [vector(1), vector(2), vector(4), matrix(1, 64, 16), matrix(2, 32, 48), matrix(4, 32, Infinity)],
};

/**
 * Y[m, n] (+)= Σₖ X[m, k] · W[n, k], with x `[rows, columns]` and y `[rows, W.rows]` (`gated`: half as wide), sums in f32.
 * The kernel follows from the device's tier and the row capacity; the batch holds the actual count.
 */
export function matmul(
  pass: Pass,
  { batch, x, weights, y }: { batch: Batch; x: GpuTensor<Operand>; weights: Matrix; y: GpuTensor<Operand> },
  { rows, store = 'assign' }: { rows: number; store?: Store },
): void {
  const { tier } = pass.device;
  const variant = variants[tier.matmul].find((v) => rows <= v.rows) ?? variants[tier.matmul].at(-1);
  if (!variant) return;
  invariant(
    store !== 'gated' || weights.rows % 2 === 0,
    () => `${weights.rows} rows cannot be gates and up in turns`,
  );
  const code = variant.kernel(tier, { format: weights.format, store, x: x.dtype, y: y.dtype });
  for (const { words, scales, dims, rows: outputs } of weights.blocks) {
    pass.run(code, { words, scales, batch, dims, x, y }, variant.grid(outputs, rows));
  }
}
