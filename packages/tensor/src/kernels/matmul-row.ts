import type { Kernel } from '../kernel.ts';
import { evenThenOdd, operandLoadsF16, operandLoadsF32 } from './matmul-loads.wgsl.ts';
import { matrixBindings } from './matmul-matrix.wgsl.ts';
import { f16Rows, f32Rows, floatDots, int4Rows, int8Rows, integerDots, rowBody } from './matmul-row.wgsl.ts';
import { isFor, type LayoutUse, type RowLayout } from './matmul-layouts.ts';
import type { WeightFormat } from './matrix.ts';
import type { Operand } from './operand.ts';
import {
  normPart,
  productKernel,
  storePart,
  type Product,
  type ProductShape,
  type Variant,
} from './product.ts';

/** How operands are taken by products for subgroups of 32, and the element of their binding. */
export const operandLoads: Readonly<Record<Operand, string>> = { f16: operandLoadsF16, f32: operandLoadsF32 };
export const operandUnit: Readonly<Record<Operand, string>> = { f16: 'vec4u', f32: 'vec4f' };

/** How weights are taken, and multiplied. */
const weightLoads: Readonly<Record<WeightFormat, readonly string[]>> = {
  f32: [f32Rows, floatDots],
  f16: [f16Rows, floatDots],
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
