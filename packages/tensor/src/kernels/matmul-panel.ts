import type { Kernel, Prelude } from '../kernel.ts';
import { isFor, type LayoutUse, type PanelLayout } from './matmul-layouts.ts';
import { matrixBindings, sliceBindings, storeKept } from './matmul-matrix.wgsl.ts';
import { finishPanels, finishPanelSlice, panelBody, panelWords } from './matmul-panel.wgsl.ts';
import { addSlices, isRoomy, sliceSizes } from './matmul-slices.ts';
import { operandLoads, operandUnit } from './operand.ts';
import {
  normPart,
  productKernel,
  storePart,
  type Product,
  type ProductShape,
  type Variant,
} from './product.ts';

/** Products of weights in panels with one layout, for tier `matrix`. */
export function panelProduct(layout: PanelLayout, use: LayoutUse): Variant {
  const { rowTiles, panels, groups, splits, slices, depth } = layout;
  const tileRows = 8 * rowTiles;
  const tileOutputs = 16 * panels * groups;
  const bytes = workgroupBytes(layout);
  const name = nameOf(layout);
  return {
    name,
    squareParts: ({ outputs }) => Math.ceil(outputs / (slices > 1 ? 64 : tileOutputs)),
    takes: (shape, { gpu: { limits } }, partial) =>
      shape.format === 'panels' &&
      bytes <= limits.maxComputeWorkgroupStorageSize &&
      32 * groups * splits <= limits.maxComputeInvocationsPerWorkgroup &&
      isFor(use, shape) &&
      shape.columns % (8 * depth * splits * slices) === 0 &&
      (slices === 1 || (partial && isRoomy(shape, tileRows, tileOutputs))),
    record: (pass, tensors, shape, product) => {
      const { rows, outputs } = shape;
      const grid = [Math.ceil(outputs / tileOutputs), Math.ceil(rows / tileRows), slices] as const;
      pass.run(panelKernel(name, product, layout, shape), tensors, grid);
      if (slices > 1) addSlices(pass, tensors, shape, product, slices);
    },
  };
}

/** Workgroup memory that a kernel takes: for the operands of a round and then for sums, and for the squares of its rows. */
function workgroupBytes({ rowTiles, panels, groups, splits, slices, depth, sides }: PanelLayout): number {
  const rows = 8 * rowTiles;
  const sums = slices > 1 ? 0 : 4 * splits * Math.min(rows, 16) * 16 * panels * groups;
  return Math.max(16 * sides * rows * (depth * splits + 1), sums) + 4 * rows;
}

function nameOf({ rowTiles, panels, groups, splits, slices, depth, sides }: PanelLayout): string {
  const shares = [
    splits > 1 && `_splits${splits}`,
    slices > 1 && `_slices${slices}`,
    `_depth${depth}`,
    sides > 1 && `_sides${sides}`,
  ];
  return [`panels${8 * rowTiles}x${16 * panels * groups}`, ...shares].filter(Boolean).join('');
}

function panelKernel(name: string, product: Product, layout: PanelLayout, shape: ProductShape): Kernel {
  const { rowTiles, panels, groups, splits, slices, depth, sides } = layout;
  const tiles = { ROW_TILES: rowTiles, PANELS: panels, GROUPS: groups };
  const sizes = { ...tiles, SPLITS: splits, DEPTH: depth, SIDES: sides };
  const prelude: Prelude = {
    enable: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
    directives: ['diagnostic(off, chromium.subgroup_matrix_uniformity);'],
    aliases: { XUnit: operandUnit[product.x] },
    constants: { ...sizes, ...(slices > 1 ? sliceSizes(shape, slices) : { SLICES: 1 }) },
  };
  const shared = slices > 1;
  const finish = shared ? [sliceBindings, finishPanelSlice] : [matrixBindings, finishPanels, storeKept];
  const bindings = [panelWords, operandLoads[product.x], ...finish];
  const parts = shared ? [] : [storePart(product), normPart(product)];
  return productKernel(`matmul_${name}`, prelude, parts, { bindings, body: panelBody });
}
