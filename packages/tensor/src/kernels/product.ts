import type { Device } from '../device.ts';
import type { Pass } from '../pass.ts';
import type { GpuTensor } from '../tensor.ts';
import type { WeightFormat } from './matrix.ts';
import { accumulate, assign, gated } from './matmul.wgsl.ts';
import { narrowChunk, type Operand } from './operand.ts';

/**
 * How a product is stored: it replaces what is in y, it is added to it (a residual connection), or it leaves as
 * SwiGLU, silu(gate) · up, where the rows of W are gate and up in turns and y is half as wide.
 */
export type Store = 'assign' | 'accumulate' | 'gated';

/** What a kernel is made for: how weights are stored, how results, and the element types of x and y. */
export interface Product {
  readonly format: WeightFormat;
  readonly store: Store;
  readonly x: Operand;
  readonly y: Operand;
}

/** Size of a product: so many rows of x times a block of W. */
export interface ProductShape {
  readonly rows: number;
  readonly outputs: number;
  readonly columns: number;
  readonly format: WeightFormat;
}

/** A way to multiply, for some shapes. */
export interface Variant {
  /** What its kernels are called, after `matmul_` and before the format of the weights. */
  readonly name: string;
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

/** The chunks that define `store`. */
export function storeChunks({ store, y }: Pick<Product, 'store' | 'y'>): string[] {
  return [narrowChunk[y], stores[store]];
}
