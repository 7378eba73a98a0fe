import type { Device } from '../device.ts';
import type { Pass } from '../pass.ts';
import type { GpuTensor } from '../tensor.ts';
import { rmsNorm, type Batch } from './elementwise.ts';
import { recordProduct, squareParts, type Operands } from './matmul.ts';
import type { Matrix } from './matrix.ts';
import type { NormedRows } from './normed-rows.ts';
import type { Operand } from './operand.ts';
import { fewestPartOutputs, mostNormRows } from './product.ts';

/** Tensors of {@link normRows}. */
export interface NormOperands {
  readonly batch: Batch;
  /** `[rows, width]`: the residual stream. */
  readonly y: GpuTensor<'f32'>;
  /** `[width]` */
  readonly weight: GpuTensor<'f32'>;
  /** `[rows, width]`, written for what reads it next. */
  readonly normed: GpuTensor<Operand>;
  /** Room of {@link normSums} elements, for norms that are part of products; absent where there are none. */
  readonly norms?: GpuTensor<'f32'> | undefined;
}

/** Sizes of a norm. */
export interface NormShape {
  readonly rows: number;
  readonly eps: number;
}

/** RMSNorm of the residual stream as a kernel of its own. */
export function normRows(
  pass: Pass,
  { batch, y, weight, normed, norms }: NormOperands,
  { rows, eps }: NormShape,
): NormedRows {
  const width = weight.shape[0] ?? 0;
  const roots = rows <= mostNormRows ? norms : undefined;
  rmsNorm(pass, { batch, x: y, weight, y: normed, ...(roots && { roots }) }, { width, eps, rows });
  return { values: normed, width, eps, norms: roots, turn: 0 };
}

/** A product to be added to the residual stream. */
export interface AddedProduct extends Pick<Operands, 'weights' | 'partial'> {
  /** `[rows, columns]` */
  readonly x: GpuTensor<Operand>;
}

/**
 * Y += X Wᵀ, then RMSNorm of Y's rows for a product with the matrix `reader`. For few rows, on devices whose products know of
 * norms, without a kernel in between: this product stores Y · weight · root, with the root that the rows had at the norm before,
 * and sums of the new squares; the reader multiplies its results by the ratio of the roots.
 * @param before what {@link normRows} or this function returned for the norm before.
 */
export function addAndNorm(
  pass: Pass,
  product: AddedProduct,
  operands: NormOperands,
  { rows, eps, reader, before }: NormShape & { readonly reader: Matrix; readonly before: NormedRows },
): NormedRows {
  const { device } = pass;
  const { batch, y, weight, normed } = operands;
  const { weights, partial } = product;
  const { norms } = before;
  const parts = squareParts(device, rows, weights, partial);
  const foldable = squareParts(device, rows, reader, partial) !== undefined && weights.blocks.length === 1;
  const added = { ...product, batch, y };
  if (!norms || !parts || !foldable) {
    recordProduct(pass, added, { rows, store: 'accumulate' });
    return normRows(pass, operands, { rows, eps });
  }
  const turn = before.turn === 0 ? 1 : 0;
  const rowsOfNorm = { width: weights.rows, eps, parts, turn } as const;
  const norm = { role: 'feeds', ...rowsOfNorm, scaled: normed.dtype } as const;
  const part = { norm, tensors: { norms, weight, scaled: normed } };
  recordProduct(pass, added, { rows, store: 'accumulate' }, part);
  return { values: normed, norms, ...rowsOfNorm };
}

/** Elements of room that {@link addAndNorm} takes for steps of up to `rows` rows; 0 where a device has no use for it. */
export function normSums({ tier }: Device, rows: number, width: number): number {
  if (tier.matmul !== 'matrix') return 0;
  // Two roots of a row, and its squares.
  return mostNormRows * 2 + Math.min(rows, mostNormRows) * Math.ceil(width / fewestPartOutputs);
}
