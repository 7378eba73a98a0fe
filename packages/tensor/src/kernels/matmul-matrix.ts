import type { Device } from '../device.ts';
import { kernel, type Kernel, type Prelude } from '../kernel.ts';
import {
  f16Loads,
  f32Loads,
  int4Loads,
  int8Loads,
  operandLoadsF16,
  operandLoadsF32,
} from './matmul-loads.wgsl.ts';
import {
  addSlicesBody,
  finishAtOnce,
  finishInTurns,
  finishSlice,
  matrixBindings,
  matrixBody,
  sliceBindings,
} from './matmul-matrix.wgsl.ts';
import { rowBody } from './matmul.wgsl.ts';
import { decodeWideF16, type WeightFormat } from './matrix.ts';
import { operandPrelude, type Operand } from './operand.ts';
import { storeChunks, type Product, type ProductShape, type Variant } from './product.ts';

/** Workgroups that share the columns of a product of few outputs and many rows. */
const slices = 4;
/** From so many outputs on a product fills a large GPU with one workgroup for 64 of them. */
const manyOutputs = 16384;

/** How a workgroup is laid out, in tiles of 16 × 16; see the kernel. */
interface Layout {
  readonly rowTiles: number;
  readonly rowGroups: number;
  readonly columnTiles: number;
  readonly columnGroups: number;
  readonly splits: number;
  readonly depth: number;
}

/** Which products a layout is for. Thresholds are measured (docs/performance-log.md). */
interface Use {
  /** Rows. */
  readonly most: number;
  /** Outputs, at least. */
  readonly outputs?: number;
  readonly finish: 'at once' | 'in turns' | 'slices';
}

const one: Layout = { rowTiles: 1, rowGroups: 1, columnTiles: 1, columnGroups: 4, splits: 1, depth: 64 };
const shared: Layout = { ...one, columnGroups: 2, splits: 4 };
const two: Layout = { ...one, rowTiles: 2 };
const four: Layout = { ...two, rowGroups: 2 };
const eight: Layout = { ...one, rowTiles: 4, rowGroups: 2 };
const wide: Layout = { ...eight, columnTiles: 2 };

/** Rows of products that workgroups share. */
const fewest = 17;
const most = 128;

/** Elements that the sums of a shared product take; 0 where it is better not shared: many outputs fill a GPU by themselves. */
export function sharedSums({ tier }: Device, rows: number, outputs: number): number {
  const many = rows <= 32 ? 2 * manyOutputs : manyOutputs;
  if (tier.matmul !== 'matrix' || rows < fewest || rows > most || outputs >= many) return 0;
  return slices * paddedRows(rows) * paddedOutputs(outputs);
}

/**
 * Elements of room for which products of up to `rows` rows are faster: for sums that several workgroups have of one result.
 * 0 where a device, or so many outputs, have no use for it.
 */
export function partialSums(device: Device, rows: number, outputs: number): number {
  return Math.max(...[32, 64, most].map((size) => sharedSums(device, Math.min(size, rows), outputs)));
}

const paddedRows = (rows: number) => (rows <= 32 ? 32 : rows <= 64 ? 64 : 128);
const paddedOutputs = (outputs: number) => Math.ceil(outputs / 64) * 64;

/** How weights are taken, and operands with the element of their binding. */
const weightLoads: Readonly<Record<WeightFormat, string>> = {
  f32: f32Loads,
  f16: f16Loads,
  int8: int8Loads,
  int4: int4Loads,
};
const operandLoads: Readonly<Record<Operand, string>> = { f16: operandLoadsF16, f32: operandLoadsF32 };
const operandUnit: Readonly<Record<Operand, string>> = { f16: 'vec4u', f32: 'vec4f' };

/** One invocation a subgroup an output: for so few rows that multiplying is cheap. Subgroups of 32. */
function row(rows: number, formats: readonly WeightFormat[]): Variant {
  const name = `row${rows}`;
  const code = ({ format, store, x, y }: Product): Kernel =>
    kernel(
      `matmul_${name}_${format}`,
      {
        enable: ['f16', 'subgroups'],
        aliases: { Y: y, XUnit: operandUnit[x] },
        constants: { ROWS: rows },
      },
      decodeWideF16[format],
      matrixBindings,
      operandLoads[x],
      ...storeChunks({ store, y }),
      rowBody,
    );
  return {
    name,
    takes: (shape) => shape.rows <= rows && formats.includes(shape.format) && shape.columns % 8 === 0,
    record: (pass, tensors, shape, product) =>
      pass.run(code(product), tensors, [Math.ceil(shape.outputs / 4)]),
  };
}

const finishes = { 'at once': finishAtOnce, 'in turns': finishInTurns, slices: finishSlice } as const;

function constantsOf(layout: Layout): Record<string, number> {
  const { rowTiles, rowGroups, columnTiles, columnGroups, splits, depth } = layout;
  return {
    ...{ ROW_TILES: rowTiles, ROW_GROUPS: rowGroups, COLUMN_TILES: columnTiles },
    ...{ COLUMN_GROUPS: columnGroups, SPLITS: splits, DEPTH: depth },
  };
}

/** Workgroup memory that a kernel takes. */
function workgroupBytes(layout: Layout, finish: Use['finish']): number {
  const { rowTiles, rowGroups, columnTiles, columnGroups, splits, depth } = layout;
  const rows = 16 * rowTiles * rowGroups;
  const outputs = 16 * columnTiles * columnGroups;
  const sums = { 'at once': splits * rows * outputs, 'in turns': rowGroups * columnGroups * 256, slices: 0 };
  return 16 * (rows + outputs) * ((depth * splits) / 8 + 1) + 4 * sums[finish];
}

/** A kernel of `matrixBody`, with `bindings` for where its results go. */
function matrixKernel(
  name: string,
  { format, x, y }: Product,
  constants: Record<string, number>,
  ...chunks: readonly string[]
): Kernel {
  const prelude: Prelude = {
    enable: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
    directives: ['diagnostic(off, chromium.subgroup_matrix_uniformity);'],
    aliases: { Y: y, XUnit: operandUnit[x] },
    constants,
  };
  return kernel(
    `matmul_${name}_${format}`,
    prelude,
    weightLoads[format],
    operandLoads[x],
    ...chunks,
    matrixBody,
  );
}

function matrix(layout: Layout, { most: rows, outputs = 0, finish }: Use): Variant {
  const { rowTiles, rowGroups, columnTiles, columnGroups, splits, depth } = layout;
  const parts = finish === 'slices' ? slices : 1;
  const tileRows = 16 * rowTiles * rowGroups;
  const tileOutputs = 16 * columnTiles * columnGroups;
  const grid = (shape: ProductShape) =>
    [Math.ceil(shape.outputs / tileOutputs), Math.ceil(shape.rows / tileRows), parts] as const;
  const bytes = workgroupBytes(layout, finish);
  const name = `matrix${tileRows}x${tileOutputs}${parts > 1 ? '_slices' : ''}`;
  const constants = { ...constantsOf(layout), SLICES: parts };
  return {
    name,
    takes: (shape, partial, limits) =>
      bytes <= limits.maxComputeWorkgroupStorageSize &&
      shape.rows <= rows &&
      shape.outputs >= outputs &&
      shape.columns % (depth * splits * parts) === 0 &&
      (partial || parts === 1),
    record: (pass, tensors, shape, product) => {
      if (parts === 1) {
        const chunks = [matrixBindings, ...storeChunks(product), finishes[finish]];
        pass.run(matrixKernel(name, product, constants, ...chunks), tensors, grid(shape));
        return;
      }
      const sizes = { ROWS: paddedRows(shape.rows), PARTIAL_STRIDE: paddedOutputs(shape.outputs) };
      const sliced = { ...constants, ...sizes };
      pass.run(matrixKernel(name, product, sliced, sliceBindings, finishSlice), tensors, grid(shape));
      pass.run(addSlices(product, { ...sizes, SLICES: parts }), tensors, [
        Math.ceil(shape.outputs / 2 / 64),
        shape.rows,
      ]);
    },
  };
}

function addSlices(product: Product, constants: Record<string, number>): Kernel {
  const prelude = { ...operandPrelude({ Y: product.y }), constants };
  return kernel('matmul_add_slices', prelude, ...storeChunks(product), addSlicesBody);
}

/** Products on tier `matrix`, the first that takes a shape is taken. */
export const matrixVariants: readonly Variant[] = [
  row(1, ['f32', 'f16', 'int8', 'int4']),
  row(2, ['f32', 'f16', 'int8']),
  matrix(one, { most: 16, outputs: manyOutputs, finish: 'at once' }),
  matrix(shared, { most: 16, finish: 'at once' }),
  matrix(one, { most: 16, finish: 'at once' }),
  matrix(two, { most: 32, finish: 'slices' }),
  matrix(two, { most: 32, finish: 'at once' }),
  matrix(four, { most: 64, finish: 'slices' }),
  matrix(four, { most: 64, finish: 'at once' }),
  matrix(eight, { most, finish: 'slices' }),
  matrix(wide, { most: Infinity, finish: 'in turns' }),
];
