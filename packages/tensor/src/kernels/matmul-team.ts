import type { Device } from '../device.ts';
import { InvalidOptionError } from '../errors.ts';
import type { Kernel } from '../kernel.ts';
import type { WeightStorage } from './matrix.ts';
import { isFor, type LayoutUse, type TeamLayout } from './matmul-layouts.ts';
import { panelOrder, rowOrder } from './matrix.wgsl.ts';
import {
  integers,
  integersF16,
  octetF16,
  octetF32,
  octetInt4,
  octetInt8,
  teamBody,
  teamF16,
  teamF32,
  eightColumns,
} from './matmul-team.wgsl.ts';
import type { Operand } from './operand.ts';
import { productKernel, storePart, type Product, type Variant } from './product.ts';

/** Invocations that share the columns of four outputs: TEAM in `teamBody`. */
const team = 4;

const octets: Readonly<Record<WeightStorage, string>> = {
  f32: octetF32,
  f16: octetF16 + rowOrder,
  panels: octetF16 + panelOrder,
  int8: octetInt8,
  int4: octetInt4,
};

/** What x and its eights in workgroup memory are. */
const operands: Readonly<Record<Operand, { readonly chunk: string; readonly bytes: number }>> = {
  f32: { chunk: teamF32, bytes: 32 },
  f16: { chunk: teamF16, bytes: 16 },
};

/**
 * Products by teams of invocations with one layout, on devices whose subgroups hold such a team.
 * @throws InvalidOptionError for a layout that the kernel does not have.
 */
export function teamProduct(layout: TeamLayout, use: LayoutUse): Variant {
  const { blocks, groups, rowGroups, splits, sides } = layout;
  if (splits > 1 && groups > 4 * sides)
    throw new InvalidOptionError(`layout ${JSON.stringify(layout)}: sums of all splits go where x was`);
  const name = nameOf(layout);
  return {
    name,
    takes: (shape, { tier, info, gpu: { limits } }) =>
      tier.reduce === 'subgroup' &&
      team <= info.subgroupMinSize &&
      team * groups * rowGroups * splits <= limits.maxComputeInvocationsPerWorkgroup &&
      workgroupBytes(layout, tier.operands) <= limits.maxComputeWorkgroupStorageSize &&
      isFor(use, shape) &&
      shape.columns % 8 === 0,
    record: (pass, tensors, { rows, outputs }, product) => {
      const grid = [Math.ceil(outputs / (4 * groups)), Math.ceil(rows / (4 * blocks * rowGroups))] as const;
      pass.run(teamKernel(pass.device, name, product, layout), tensors, grid);
    },
  };
}

/** Workgroup memory that a kernel takes. */
function workgroupBytes({ blocks, rowGroups, splits, sides }: TeamLayout, operand: Operand): number {
  return operands[operand].bytes * sides * 4 * blocks * rowGroups * team * splits;
}

function nameOf({ blocks, groups, rowGroups, splits, sides }: TeamLayout): string {
  const shares = [
    rowGroups > 1 && `_groups${rowGroups}`,
    splits > 1 && `_splits${splits}`,
    sides > 1 && `_sides${sides}`,
  ];
  return [`team${4 * blocks * rowGroups}x${4 * groups}`, ...shares].filter(Boolean).join('');
}

function teamKernel({ tier }: Device, name: string, product: Product, layout: TeamLayout): Kernel {
  const { format, x } = product;
  const { blocks, groups, rowGroups, splits, sides } = layout;
  const half = tier.features.includes('shader-f16');
  const loads = [octets[format], half ? integersF16 : integers];
  return productKernel(
    `matmul_${name}_${format}`,
    {
      enable: ['subgroups', ...(half ? ['f16'] : [])],
      constants: { BLOCKS: blocks, GROUPS: groups, ROW_GROUPS: rowGroups, SPLITS: splits, SIDES: sides },
    },
    [storePart(product)],
    { bindings: [...loads, operands[x].chunk, eightColumns], body: teamBody },
  );
}
