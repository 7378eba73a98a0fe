import type { Kernel } from '../kernel.ts';
import { asTheyLie, evenThenOdd, f16Words, f32Words } from './matmul-loads.wgsl.ts';
import { matrixBindings } from './matmul-matrix.wgsl.ts';
import { floatDots, int4Rows, int8Rows, integerDots, rowBody } from './matmul-row.wgsl.ts';
import { isFor, type LayoutUse, type RowLayout } from './matmul-layouts.ts';
import type { WeightFormat } from './matrix.ts';
import { operandLoads, operandUnit } from './operand.ts';
import {
  normPart,
  productKernel,
  storePart,
  type Product,
  type ProductShape,
  type Variant,
} from './product.ts';

/** How weights are taken, and multiplied. */
const weightLoads: Readonly<Record<WeightFormat, readonly string[]>> = {
  f32: [f32Words, floatDots, asTheyLie],
  f16: [f16Words, floatDots, asTheyLie],
  int8: [int8Rows, integerDots, evenThenOdd],
  int4: [int4Rows, integerDots, evenThenOdd],
};

/**
 * Subgroups of a workgroup: the fewer workgroups, the fewer parts there are of the squares that a norm is made of, which the
 * next product adds up in each of its own.
 */
const subgroups = 8;

/** Products of up to `most` rows, so few that multiplying is cheap. Subgroups of 32. */
export function rowProduct({ outputs, splits }: RowLayout, use: LayoutUse): Variant {
  const { most } = use;
  const parts = ({ outputs: all }: ProductShape) => Math.ceil((all * splits) / (subgroups * outputs));
  const shares = [outputs > 1 && `x${outputs}`, splits > 1 && `_splits${splits}`].filter(Boolean);
  const name = `row${most}${shares.join('')}`;
  const code = (product: Product): Kernel => {
    const { format, x } = product;
    const layout = { ROWS: most, OUTPUTS: outputs, SPLITS: splits, SUBGROUPS: subgroups };
    return productKernel(
      `matmul_${name}_${format}`,
      { enable: ['f16', 'subgroups'], aliases: { XUnit: operandUnit[x] }, constants: layout },
      [storePart(product), normPart(product)],
      { bindings: [...weightLoads[format], matrixBindings, operandLoads[x]], body: rowBody },
    );
  };
  return {
    name,
    squareParts: parts,
    takes: (shape) => isFor(use, shape) && shape.columns % 8 === 0,
    record: (pass, tensors, shape, product) => pass.run(code(product), tensors, [parts(shape)]),
  };
}
