import type { Device } from '../device.ts';
import { kernel, mergePreludes, type Kernel, type KernelPart, type Prelude } from '../kernel.ts';
import type { Pass } from '../pass.ts';
import type { GpuTensor } from '../tensor.ts';
import type { WeightStorage } from './matrix.ts';
import { accumulate, assign, gated } from './matmul.wgsl.ts';
import { narrowChunk, operandPrelude, type Operand } from './operand.ts';
import {
  addAcross,
  feedsNorm,
  feedsNormBindings,
  leftByNorms,
  noNorm,
  readsNorm,
  readsNormBindings,
} from './residual.wgsl.ts';

/**
 * How a product is stored: it replaces what is in y, it is added to it (a residual connection), or it leaves as
 * SwiGLU, silu(gate) · up, where the rows of W are gate and up in turns and y is half as wide.
 */
export type Store = 'assign' | 'accumulate' | 'gated';

/**
 * What becomes of results that are not simply stored: WGSL that defines `store(row, n, values)` as those of a {@link Store}
 * do, for outputs n and n + 1, n even, what it wants in front of the kernel, and the tensors that it binds, beside `batch`,
 * `dims` and `y` (as `@binding(next)`). Its constants and names must differ from those of the kernels.
 */
export interface Epilogue extends KernelPart {
  readonly tensors: Readonly<Record<string, GpuTensor>>;
}

/** What a kernel is made for: how weights are stored, how results, and the element types of x and y. */
export interface Product {
  readonly format: WeightStorage;
  readonly store: Store | Epilogue;
  readonly x: Operand;
  readonly y: Operand;
  /** A norm that is part of it; see `addAndNorm`. Default: none. */
  readonly norm?: ProductNorm | undefined;
}

/** What a product has to do with an RMSNorm next to it. */
export interface ProductNorm {
  /** It normalises the rows of x, or stores beside y what a product reads that does (with `accumulate`). */
  readonly role: 'reads' | 'feeds';
  readonly width: number;
  readonly eps: number;
  /** Parts in which squares of the rows are added up. */
  readonly parts: number;
  /** Element type of rows that are to be normalised. */
  readonly scaled: Operand;
  /** Where this norm's roots are in what norms leave for each other: 0, or 1 where those of the norm before are at 0. */
  readonly turn: 0 | 1;
}

/** Rows of a product that has a norm in it, at most: with more, a norm by itself is as fast (docs/performance-log.md). */
export const mostNormRows = 48;

/** Outputs of a part in which squares of a row are added up, at least: it is what norms have room for. */
export const fewestPartOutputs = 4;

/** Storage buffers that a product binds, at most, beside those of an {@link Epilogue}; one that feeds a norm has none. */
export const productBuffers = 6;

/** Size of a product: so many rows of x times a block of W. */
export interface ProductShape {
  readonly rows: number;
  readonly outputs: number;
  readonly columns: number;
  readonly format: WeightStorage;
}

/** A way to multiply, for some shapes. */
export interface Variant {
  /** What its kernels are called, after `matmul_` and before the format of the weights. */
  readonly name: string;
  /** Parts in which it adds up the squares of a row that it stores. Absent where it knows nothing of norms. */
  squareParts?(shape: ProductShape): number;
  /** @param partial whether there is room for sums of several workgroups. */
  takes(shape: ProductShape, device: Device, partial: boolean): boolean;
  record(
    pass: Pass,
    tensors: Readonly<Record<string, GpuTensor>>,
    shape: ProductShape,
    product: Product,
  ): void;
}

const stores: Readonly<Record<Store, string>> = { assign, accumulate, gated };

/** Outputs whose squares a subgroup adds up at most: in pairs, by as many invocations. */
const mostPartOutputs = 64;

/**
 * What a variant with `own` outputs a workgroup says of squares: their parts, or nothing where norms have no room for so many, or
 * invocations side by side cannot add them up.
 */
export function squaresOf(own: number): Pick<Variant, 'squareParts'> {
  const sizes = own >= fewestPartOutputs && own <= mostPartOutputs && Number.isInteger(Math.log2(own));
  return sizes ? { squareParts: ({ outputs }) => Math.ceil(outputs / own) } : {};
}

/** What defines `store`. */
export function storePart({ store, y }: Pick<Product, 'store' | 'y'>): KernelPart {
  const narrow = { prelude: operandPrelude({ Y: y }), chunks: [narrowChunk[y]] };
  if (typeof store === 'string') return { ...narrow, chunks: [...narrow.chunks, stores[store]] };
  return {
    prelude: mergePreludes(narrow.prelude, store.prelude),
    chunks: [...narrow.chunks, ...store.chunks],
  };
}

/** What a kernel needs that may have a norm in it. */
export function normPart({ norm }: Product): KernelPart {
  if (!norm) return { prelude: {}, chunks: [noNorm, addAcross] };
  const { role, width, eps, parts, scaled, turn } = norm;
  const places = {
    ...{ MOST_ROWS: mostNormRows, ROOTS: turn * mostNormRows, ROOTS_BEFORE: (1 - turn) * mostNormRows },
    ...{ PARTS: parts, NORM_WIDTH: width },
  };
  const own = role === 'reads' ? [readsNormBindings, readsNorm] : [feedsNormBindings, feedsNorm];
  return {
    prelude: {
      aliases: { Scaled: scaled },
      constants: { ...places, EPS: `${eps.toExponential()}f` },
    },
    chunks: [leftByNorms, ...own, addAcross],
  };
}

/** What kernels with subgroup matrices want in front of them. */
export const subgroupMatrices = {
  enable: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
  directives: ['diagnostic(off, chromium.subgroup_matrix_uniformity);'],
} as const;

/** A kernel of parts: their chunks lie between bindings and body. */
export function productKernel(
  name: string,
  prelude: Prelude,
  parts: readonly KernelPart[],
  { bindings, body }: { readonly bindings: readonly string[]; readonly body: string },
): Kernel {
  const all = mergePreludes(prelude, ...parts.map((part) => part.prelude));
  return kernel(name, all, ...bindings, ...parts.flatMap(({ chunks }) => chunks), body);
}
