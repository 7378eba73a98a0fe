import type { Device } from '../device.ts';
import type { Pass } from '../pass.ts';
import type { GpuTensor } from '../tensor.ts';
import { isFor, matrixLayouts } from './matmul-layouts.ts';
import { addSlicesBindings, addSlicesBody } from './matmul-matrix.wgsl.ts';
import { decodeQuad, type WeightStorage } from './matrix.ts';
import { normPart, productKernel, storePart, type Product, type ProductShape } from './product.ts';

/** Elements that the sums of a shared product take; 0 where it is better not shared: many outputs fill a GPU by themselves. */
export function sharedSums({ tier }: Device, rows: number, outputs: number): number {
  if (tier.matmul !== 'matrix') return 0;
  const firsts = storages.map((format) => matrixLayouts.find((use) => isFor(use, { rows, outputs, format })));
  const slices = Math.max(
    ...firsts.map((first) => (first && 'slices' in first.layout ? first.layout.slices : 1)),
  );
  return slices > 1 ? slices * paddedRows(rows) * paddedOutputs(outputs) : 0;
}

/**
 * Elements of room for which products of up to `rows` rows are faster: for sums that several workgroups have of one result.
 * 0 where a device, or so many outputs, have no use for it.
 */
export function partialSums(device: Device, rows: number, outputs: number): number {
  return Math.max(...[32, 48, 64, 128].map((size) => sharedSums(device, Math.min(size, rows), outputs)));
}

const storages = Object.keys(decodeQuad) as WeightStorage[];

const paddedRows = (rows: number) => [32, 64].find((size) => rows <= size) ?? 128;
const paddedOutputs = (outputs: number) => Math.ceil(outputs / 64) * 64;

/** Whether tiles of such a size stay within the room that the sums of a product have. */
export function isRoomy({ rows }: ProductShape, tileRows: number, tileOutputs: number): boolean {
  return tileRows <= paddedRows(rows) && 64 % tileOutputs === 0;
}

/** Constants of kernels that leave sums of a slice, and of the one that adds them up. */
export function sliceSizes({ rows, outputs }: ProductShape, slices: number): Record<string, number> {
  return { ROWS: paddedRows(rows), PARTIAL_STRIDE: paddedOutputs(outputs), SLICES: slices };
}

/** Outputs of which a subgroup adds up slices, and squares. */
export const summedOutputs = 64;

/** Adds up the slices of a product and stores it. */
export function addSlices(
  pass: Pass,
  tensors: Readonly<Record<string, GpuTensor>>,
  shape: ProductShape,
  product: Product,
  slices: number,
): void {
  const code = productKernel(
    'matmul_add_slices',
    { enable: ['f16', 'subgroups'], constants: sliceSizes(shape, slices) },
    [storePart(product), normPart(product)],
    { bindings: [addSlicesBindings], body: addSlicesBody },
  );
  pass.run(code, tensors, [Math.ceil(shape.outputs / 2 / 64), shape.rows]);
}
