import type { Kernel } from '../kernel.ts';
import { asTheyLie, evenThenOdd, f16Words, f32Words } from './matmul-loads.wgsl.ts';
import { matrixBindings } from './matmul-matrix.wgsl.ts';
import { floatDots, int4Rows, int8Rows, integerDots, rowBody } from './matmul-row.wgsl.ts';
import { isFor, type LayoutUse, type RowLayout } from './matmul-layouts.ts';
import type { WeightStorage } from './matrix.ts';
import { panelOrder, rowOrder } from './matrix.wgsl.ts';
import { operandLoads, operandUnit } from './operand.ts';
import { normPart, productKernel, squaresOf, storePart, type Product, type Variant } from './product.ts';

/** How weights are taken, and multiplied. */
const weightLoads: Readonly<Record<WeightStorage, readonly string[]>> = {
  f32: [f32Words, rowOrder, floatDots, asTheyLie],
  f16: [f16Words, rowOrder, floatDots, asTheyLie],
  panels: [f16Words, panelOrder, floatDots, asTheyLie],
  int8: [int8Rows, rowOrder, integerDots, evenThenOdd],
  int4: [int4Rows, rowOrder, integerDots, evenThenOdd],
};

/** Products of up to `most` rows, so few that multiplying is cheap. Subgroups of 32. */
export function rowProduct({ outputs, lanes, splits, subgroups }: RowLayout, use: LayoutUse): Variant {
  const { most } = use;
  const own = (subgroups / splits) * outputs * (32 / lanes);
  const whole = subgroups % splits === 0 && own % 2 === 0 && own <= 64 && most * own <= 64 * subgroups;
  const shares = [
    outputs > 1 && `x${outputs}`,
    lanes < 32 && `_lanes${lanes}`,
    splits > 1 && `_splits${splits}`,
  ].filter(Boolean);
  const name = `row${most}${shares.join('')}`;
  const code = (product: Product): Kernel => {
    const { format, x } = product;
    const layout = { ROWS: most, OUTPUTS: outputs, SPLITS: splits, LANES: lanes, SUBGROUPS: subgroups };
    return productKernel(
      `matmul_${name}_${format}`,
      { enable: ['f16', 'subgroups'], aliases: { XUnit: operandUnit[x] }, constants: layout },
      [storePart(product), normPart(product)],
      { bindings: [...weightLoads[format], matrixBindings, operandLoads[x]], body: rowBody },
    );
  };
  return {
    name,
    ...squaresOf(own),
    takes: (shape, { gpu: { limits } }) =>
      isFor(use, shape) &&
      whole &&
      shape.columns % 8 === 0 &&
      32 * subgroups <= limits.maxComputeInvocationsPerWorkgroup,
    record: (pass, tensors, shape, product) =>
      pass.run(code(product), tensors, [Math.ceil(shape.outputs / own)]),
  };
}
