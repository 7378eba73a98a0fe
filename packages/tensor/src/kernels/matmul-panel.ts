import type { Kernel } from '../kernel.ts';
import { isFor, type LayoutUse, type PanelLayout } from './matmul-layouts.ts';
import { matrixBindings, storeKept } from './matmul-matrix.wgsl.ts';
import { finishPanels, panelBody, panelWords } from './matmul-panel.wgsl.ts';
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

/** Products of weights in panels with one layout, for tier `matrix`. */
export function panelProduct(layout: PanelLayout, use: LayoutUse): Variant {
  const { rowTiles, panels, groups, splits, depth } = layout;
  const tileRows = 8 * rowTiles;
  const tileOutputs = 16 * panels * groups;
  const bytes = workgroupBytes(layout);
  const name = nameOf(layout);
  return {
    name,
    ...squaresOf(tileOutputs),
    takes: (shape, { gpu: { limits } }) =>
      shape.format === 'panels' &&
      bytes <= limits.maxComputeWorkgroupStorageSize &&
      32 * groups * splits <= limits.maxComputeInvocationsPerWorkgroup &&
      isFor(use, shape) &&
      shape.columns % (8 * depth * splits) === 0,
    record: (pass, tensors, { rows, outputs }, product) => {
      const grid = [Math.ceil(outputs / tileOutputs), Math.ceil(rows / tileRows)] as const;
      pass.run(panelKernel(name, product, layout), tensors, grid);
    },
  };
}

/** Workgroup memory that a kernel takes: for operands, for sums, and for the squares of its rows. */
function workgroupBytes({ rowTiles, panels, groups, splits, depth, sides }: PanelLayout): number {
  const rows = 8 * rowTiles;
  const sums = 512 * splits * panels * groups;
  return 18 * sides * rows * depth * splits + sums + 4 * rows;
}

function nameOf({ rowTiles, panels, groups, splits, depth, sides }: PanelLayout): string {
  const shares = [splits > 1 && `_splits${splits}`, `_depth${depth}`, sides > 1 && `_sides${sides}`];
  return [`panels${8 * rowTiles}x${16 * panels * groups}`, ...shares].filter(Boolean).join('');
}

function panelKernel(name: string, product: Product, layout: PanelLayout): Kernel {
  const { rowTiles, panels, groups, splits, depth, sides } = layout;
  const tiles = { ROW_TILES: rowTiles, PANELS: panels, GROUPS: groups };
  return productKernel(
    `matmul_${name}`,
    {
      ...subgroupMatrices,
      aliases: { XUnit: operandUnit[product.x] },
      constants: { ...tiles, SPLITS: splits, DEPTH: depth, SIDES: sides },
    },
    [storePart(product), normPart(product)],
    {
      bindings: [panelWords, operandLoads[product.x], matrixBindings, finishPanels, storeKept],
      body: panelBody,
    },
  );
}
