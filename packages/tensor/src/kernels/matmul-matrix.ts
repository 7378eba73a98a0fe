import { InvalidOptionError } from '../errors.ts';
import type { Kernel, Prelude } from '../kernel.ts';
import {
  acrossRows,
  alongRows,
  asTheyLie,
  evenThenOdd,
  f16Words,
  f32Words,
  floatTiles,
  int4Loads,
  int8Loads,
} from './matmul-loads.wgsl.ts';
import {
  finishAtOnce,
  finishInTurns,
  finishSlice,
  matrixBindings,
  matrixBody,
  sliceBindings,
  storeKept,
} from './matmul-matrix.wgsl.ts';
import { rowProduct } from './matmul-row.ts';
import { panelProduct } from './matmul-panel.ts';
import { addSlices, isRoomy, sliceSizes, summedOutputs } from './matmul-slices.ts';
import { isFor, matrixLayouts, rowLayouts, type LayoutUse, type ProductLayout } from './matmul-layouts.ts';
import type { WeightStorage } from './matrix.ts';
import { panelOrder, rowOrder } from './matrix.wgsl.ts';
import { operandLoads, operandUnit } from './operand.ts';
import {
  normPart,
  productKernel,
  squaresOf,
  storePart,
  subgroupMatrices,
  type Product,
  type Variant,
} from './product.ts';

/** How weights are taken. */
const weightLoads: Readonly<Record<WeightStorage, readonly string[]>> = {
  f32: [f32Words, rowOrder, alongRows, floatTiles, asTheyLie],
  f16: [f16Words, rowOrder, alongRows, floatTiles, asTheyLie],
  panels: [f16Words, panelOrder, acrossRows, floatTiles, asTheyLie],
  int8: [int8Loads, rowOrder, alongRows, evenThenOdd],
  int4: [int4Loads, rowOrder, alongRows, evenThenOdd],
};

function constantsOf(layout: ProductLayout): Record<string, number> {
  const { rowTiles, rowGroups, columnTiles, columnGroups, splits, slices, depth, ahead } = layout;
  return {
    ...{ ROW_TILES: rowTiles, ROW_GROUPS: rowGroups, COLUMN_TILES: columnTiles },
    ...{ COLUMN_GROUPS: columnGroups, SPLITS: splits, SLICES: slices, DEPTH: depth, AHEAD: ahead },
  };
}

/** How sums leave a kernel, and how many tiles of them workgroup memory holds then. */
function finishOf(layout: ProductLayout): { readonly body: string; readonly sums: number } {
  const { rowTiles, rowGroups, columnTiles, columnGroups, splits, slices } = layout;
  if (slices > 1) return { body: finishSlice, sums: 0 };
  const groups = rowGroups * columnGroups;
  const tiles = rowTiles * columnTiles;
  if (tiles === 8) return { body: finishInTurns, sums: groups };
  return { body: finishAtOnce + storeKept, sums: groups * tiles * splits };
}

function checkLayout(layout: ProductLayout): void {
  const { rowTiles, columnTiles, splits, slices, depth } = layout;
  const wrong = (why: string) => new InvalidOptionError(`layout ${JSON.stringify(layout)}: ${why}`);
  if (rowTiles * columnTiles > 4 && !(rowTiles === 4 && columnTiles === 2))
    throw wrong('a subgroup has up to 4 tiles, or 4 × 2');
  if (splits > 1 && (slices > 1 || rowTiles * columnTiles === 8))
    throw wrong('splits are added up by a workgroup that holds all sums at once');
  if (depth % 32 !== 0) throw wrong('a round takes whole pairs of tiles');
}

/** Workgroup memory that a kernel takes: for the tiles of a round, and then for sums. */
function workgroupBytes(layout: ProductLayout): number {
  const { rowTiles, rowGroups, columnTiles, columnGroups, splits, depth } = layout;
  const tiles = rowTiles * rowGroups + columnTiles * columnGroups;
  const squares = 4 * 16 * rowTiles * rowGroups; // a sum for each row, where a norm is read
  return 16 * 84 * Math.max((tiles * depth * splits) / 32, finishOf(layout).sums) + squares;
}

/**
 * Products with one layout, for tier `matrix`.
 * @throws InvalidOptionError for a layout that the kernel does not have.
 */
export function matrixProduct(layout: ProductLayout, use: LayoutUse): Variant {
  checkLayout(layout);
  const { rowTiles, rowGroups, columnTiles, columnGroups, splits, slices, depth } = layout;
  const tileRows = 16 * rowTiles * rowGroups;
  const tileOutputs = 16 * columnTiles * columnGroups;
  const bytes = workgroupBytes(layout);
  const width = 32 * rowGroups * columnGroups * splits;
  const { body } = finishOf(layout);
  const name = nameOf(layout);
  return {
    name,
    ...(body !== finishInTurns && squaresOf(slices > 1 ? summedOutputs : tileOutputs)),
    takes: (shape, { gpu: { limits } }, partial) =>
      bytes <= limits.maxComputeWorkgroupStorageSize &&
      width <= limits.maxComputeInvocationsPerWorkgroup &&
      isFor(use, shape) &&
      shape.columns % (depth * splits * slices) === 0 &&
      (slices === 1 || (partial && isRoomy(shape, tileRows, tileOutputs))),
    record: (pass, tensors, shape, product) => {
      const { rows, outputs } = shape;
      const grid = [Math.ceil(outputs / tileOutputs), Math.ceil(rows / tileRows), slices] as const;
      pass.run(matrixKernel(name, product, layout, sliceSizes(shape, slices)), tensors, grid);
      if (slices > 1) addSlices(pass, tensors, shape, product, slices);
    },
  };
}

function nameOf(layout: ProductLayout): string {
  const { rowTiles, rowGroups, columnTiles, columnGroups, splits, slices, depth } = layout;
  const shares = [
    splits > 1 && `_splits${splits}`,
    slices > 1 && `_slices${slices}`,
    depth !== 64 && `_depth${depth}`,
  ];
  return [`matrix${16 * rowTiles * rowGroups}x${16 * columnTiles * columnGroups}`, ...shares]
    .filter(Boolean)
    .join('');
}

/** A kernel of `matrixBody`, which stores its results, or leaves the sums of a slice. */
function matrixKernel(
  name: string,
  product: Product,
  layout: ProductLayout,
  sums: Record<string, number>,
): Kernel {
  const { format, x } = product;
  const { body } = finishOf(layout);
  const slices = layout.slices > 1;
  const prelude: Prelude = {
    ...subgroupMatrices,
    aliases: { XUnit: operandUnit[x] },
    constants: { ...constantsOf(layout), ...(slices && sums) },
  };
  const stored = [storePart(product), ...(body === finishInTurns ? [] : [normPart(product)])];
  const own = slices ? sliceBindings : matrixBindings;
  const bindings = [...weightLoads[format], operandLoads[x], own, body];
  const parts = slices ? [] : stored;
  return productKernel(`matmul_${name}_${format}`, prelude, parts, { bindings, body: matrixBody });
}

/** Products on tier `matrix`, the first that takes a shape is taken. */
export const matrixVariants: readonly Variant[] = [
  ...rowLayouts.map(({ layout, ...use }) => rowProduct(layout, use)),
  ...matrixLayouts.map(({ layout, ...use }) =>
    'panels' in layout ? panelProduct(layout, use) : matrixProduct(layout, use),
  ),
];
