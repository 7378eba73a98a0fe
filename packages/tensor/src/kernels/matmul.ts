import type { Tier } from '../capabilities.ts';
import type { Device } from '../device.ts';
import { invariant } from '../errors.ts';
import { mergePreludes, type Kernel } from '../kernel.ts';
import type { Grid, Pass } from '../pass.ts';
import type { GpuTensor } from '../tensor.ts';
import type { Batch } from './elementwise.ts';
import { decodeQuad, decodeWide, rowsOfBlock, storageOf, type Matrix, type MatrixShape } from './matrix.ts';
import { teamLayouts } from './matmul-layouts.ts';
import { matrixVariants } from './matmul-matrix.ts';
import { sharedSums } from './matmul-slices.ts';
import { teamProduct } from './matmul-team.ts';
import { thread1, thread4, thread8, threadHead } from './matmul-thread.wgsl.ts';
import { productBindings, tileBody, vectorBody } from './matmul.wgsl.ts';
import { readerOf, type NormedRows, type NormPart } from './normed-rows.ts';
import { operandPrelude, type Operand } from './operand.ts';
import {
  productKernel,
  storePart,
  type Epilogue,
  type Product,
  type ProductShape,
  type Store,
  type Variant,
} from './product.ts';
import { reducingKernel } from './reduce.ts';

/** A variant of one kernel for up to `rows` rows. */
function single(
  name: string,
  rows: number,
  code: (tier: Tier, product: Product) => Kernel,
  grid: (outputs: number, rows: number) => Grid,
): Variant {
  return {
    name,
    takes: (shape) => shape.rows <= rows,
    record: (pass, tensors, shape, product) =>
      pass.run(code(pass.device.tier, product), tensors, grid(shape.outputs, shape.rows)),
  };
}

function vector(rows: number): Variant {
  const name = `vector${rows}`;
  return single(
    name,
    rows,
    (tier, product) => {
      const { prelude, chunks } = storePart(product);
      const own = { ...operandPrelude({ X: product.x }), constants: { ROWS: rows } };
      const parts = [decodeWide[product.format], productBindings, ...chunks, vectorBody];
      return reducingKernel(tier, `matmul_${name}_${product.format}`, mergePreludes(own, prelude), ...parts);
    },
    (outputs) => [Math.ceil(outputs / 4)],
  );
}

function thread(rows: number, body: string, most: number = rows): Variant {
  const name = `thread${rows}`;
  return single(
    name,
    most,
    (_tier, product) =>
      productKernel(
        `matmul_${name}_${product.format}`,
        operandPrelude({ X: product.x }),
        [storePart(product)],
        { bindings: [decodeQuad[product.format], productBindings, threadHead], body },
      ),
    (outputs, m) => [Math.ceil(outputs / 4 / 32), Math.ceil(m / rows)],
  );
}

/** A tile of `rowTile` · `rowGroups` rows × 64 outputs, `quads` quads of columns a round. */
function tile(rowTile: number, rowGroups: number, quads: number, most: number): Variant {
  const rows = rowTile * rowGroups;
  const name = `tile${rows}`;
  return single(
    name,
    most,
    (_tier, product) =>
      productKernel(
        `matmul_${name}_${product.format}`,
        {
          ...operandPrelude({ X: product.x }),
          constants: { ROW_TILE: rowTile, ROW_GROUPS: rowGroups, TILE_QUADS: quads },
        },
        [storePart(product)],
        { bindings: [decodeQuad[product.format], productBindings], body: tileBody },
      ),
    (outputs, m) => [Math.ceil(outputs / 64), Math.ceil(m / rows)],
  );
}

/** Where subgroups hold teams. */
const teams = teamLayouts.map(({ layout, ...use }) => teamProduct(layout, use));

/** For every GPU. */
const tiled = [vector(4), tile(4, 4, 8, 16), tile(4, 8, 8, 32), tile(8, 8, 4, Infinity)];

/** Per tier: the first variant that takes so many rows, outputs and columns is taken. */
const variants: Readonly<Record<Tier['matmul'], readonly Variant[]>> = {
  thread: [thread(1, thread1), thread(4, thread4), thread(8, thread8, Infinity)],
  tile: [vector(1), ...teams, vector(2), ...tiled],
  matrix: [...matrixVariants, ...teams, ...tiled],
};

/** The variant for a block of a matrix; `partial` says whether there is room for `partialSums`. */
function variantFor(device: Device, shape: ProductShape, partial: boolean): Variant {
  const found = variants[device.tier.matmul].find((variant) => variant.takes(shape, device, partial));
  invariant(found, () => `no product of ${shape.rows} rows`);
  return found;
}

/**
 * Name of the way in which {@link matmul} multiplies `rows` rows by such a matrix, with room for `partialSums`: a
 * kernel, and the size of its tiles.
 */
export function productVariant(device: Device, rows: number, weights: MatrixShape): string {
  const { columns } = weights;
  const format = storageOf(device, weights, device.maxBindingBytes);
  const outputs = Math.min(weights.rows, rowsOfBlock(weights, device.maxBindingBytes));
  const partial = sharedSums(device, rows, outputs) > 0;
  return variantFor(device, { rows, outputs, columns, format }, partial).name;
}

/** Tensors of a {@link matmul}. */
export interface Operands {
  readonly batch: Batch;
  /** `[rows, columns]` */
  readonly x: GpuTensor<Operand> | NormedRows;
  readonly weights: Matrix;
  /** `[rows, W.rows]`; with `gated` half as wide. */
  readonly y: GpuTensor<Operand>;
  /**
   * Room for sums that several workgroups have of one result, see `partialSums`; what it holds is lost. Where it is
   * absent, one workgroup computes a result.
   */
  readonly partial?: GpuTensor<'f32'> | undefined;
}

/** What a {@link matmul} is. */
export interface ProductOptions {
  /** Row capacity; the batch holds the actual count. */
  readonly rows: number;
  /** Default `'assign'`. */
  readonly store?: Store | Epilogue;
  /** A way to multiply that takes the shape. Default: what was measured best for it. To measure others, see {@link matrixProduct}. */
  readonly variant?: Variant;
}

/**
 * Y[m, n] (+)= Σₖ X[m, k] · W[n, k], with x `[rows, columns]` and y `[rows, W.rows]` (`gated`: half as wide), sums in f32.
 * The kernel follows from the device's tier, the row capacity and the matrix.
 */
export function matmul(pass: Pass, operands: Operands, options: ProductOptions): void {
  const { x } = operands;
  recordProduct(
    pass,
    'values' in x ? { ...operands, x: x.values } : { ...operands, x },
    options,
    readerOf(x),
  );
}

/** {@link matmul} with a norm in it. */
export function recordProduct(
  pass: Pass,
  { batch, x, weights, y, partial }: Operands & { readonly x: GpuTensor<Operand> },
  { rows, store = 'assign', variant }: ProductOptions,
  part?: NormPart,
): void {
  const { device } = pass;
  invariant(
    store !== 'gated' || weights.rows % 2 === 0,
    () => `${weights.rows} rows cannot be gates and ups in turns`,
  );
  const product = { format: weights.storage, store, x: x.dtype, y: y.dtype, norm: part?.norm };
  for (const { words, scales, dims, rows: outputs } of weights.blocks) {
    const shape = { rows, outputs, columns: weights.columns, format: weights.storage };
    const way = variant ?? variantFor(device, shape, hasRoom(device, shape, partial));
    const own = { words, scales, batch, dims, x, y, ...(partial && { partial }) };
    const tensors = { ...own, ...part?.tensors, ...(typeof store === 'object' && store.tensors) };
    way.record(pass, tensors, shape, product);
  }
}

/** Parts in which a product with these weights adds up the squares of what it stores; undefined where it does not. */
export function squareParts(
  device: Device,
  rows: number,
  { columns, storage, blocks }: Matrix,
  partial: GpuTensor | undefined,
): number | undefined {
  const parts = blocks.map((block) => {
    const shape = { rows, outputs: block.rows, columns, format: storage };
    return variantFor(device, shape, hasRoom(device, shape, partial)).squareParts?.(shape);
  });
  return parts.includes(undefined) ? undefined : parts[0];
}

function hasRoom(
  device: Device,
  { rows, outputs }: Pick<ProductShape, 'rows' | 'outputs'>,
  partial?: GpuTensor,
): boolean {
  const room = sharedSums(device, rows, outputs);
  return partial !== undefined && room > 0 && partial.byteLength >= 4 * room;
}
