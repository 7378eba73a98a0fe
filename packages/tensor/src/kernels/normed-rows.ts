import type { GpuTensor } from '../tensor.ts';
import type { Operand } from './operand.ts';
import type { ProductNorm } from './product.ts';

/** Rows of the residual stream, normalised (RMSNorm), as a product reads them. */
export interface NormedRows {
  /** `[rows, width]` */
  readonly values: GpuTensor<Operand>;
  readonly width: number;
  readonly eps: number;
  /** What norms leave for each other, and where the roots of this one are in it; absent where nobody asks for them. */
  readonly norms?: GpuTensor<'f32'> | undefined;
  readonly turn: 0 | 1;
  /** Parts in which squares were added up, for a reader that has to finish the norm. Absent where that is done. */
  readonly parts?: number;
}

/** A norm in a product, and its tensors. */
export interface NormPart {
  readonly norm: ProductNorm;
  readonly tensors: Readonly<Record<string, GpuTensor>>;
}

/** What a product that reads these rows has to do for their norm; undefined where that is done. */
export function readerOf(x: GpuTensor<Operand> | NormedRows): NormPart | undefined {
  if (!('values' in x) || !x.parts || !x.norms) return undefined;
  const { values, width, eps, norms, turn, parts } = x;
  return { norm: { role: 'reads', width, eps, parts, turn, scaled: values.dtype }, tensors: { norms } };
}
