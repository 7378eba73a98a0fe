import type { Device } from '../device.ts';
import { InvalidOptionError } from '../errors.ts';
import { kernel, type Kernel, type Prelude } from '../kernel.ts';
import {
  exactDots,
  f16Loads,
  f32Loads,
  halfDots,
  int4Loads,
  int8Loads,
  operandLoadsF16,
  operandLoadsF32,
} from './matmul-loads.wgsl.ts';
import {
  addSlicesBindings,
  addSlicesBody,
  finishAtOnce,
  finishInTurns,
  finishSlice,
  matrixBindings,
  matrixBody,
  sliceBindings,
} from './matmul-matrix.wgsl.ts';
import { rowBody } from './matmul.wgsl.ts';
import type { WeightFormat } from './matrix.ts';
import type { Operand } from './operand.ts';
import { normChunks, storeChunks, type Product, type ProductShape, type Variant } from './product.ts';

/** How a product is laid out on subgroup matrices of 16 × 16; see `matrixBody`. */
export interface ProductLayout {
  /** Tiles of rows and of outputs that a subgroup computes. */
  readonly rowTiles: number;
  readonly columnTiles: number;
  /** Subgroups side by side, for other rows and for other outputs. */
  readonly rowGroups: number;
  readonly columnGroups: number;
  /** Subgroups of a workgroup that share the columns of W, and workgroups that do. */
  readonly splits: number;
  readonly slices: number;
  /** Columns of a split that a round takes: a multiple of 16. */
  readonly depth: number;
  /** Rounds that are on their way while one is multiplied. */
  readonly ahead: 1 | 2;
}

/** Which products a layout is for. Thresholds are measured (docs/performance-log.md). */
export interface MatrixUse {
  /** Rows. */
  readonly most: number;
  /** Outputs, at least. */
  readonly outputs?: number;
}

const one: ProductLayout = {
  ...{ rowTiles: 1, columnTiles: 1, rowGroups: 1, columnGroups: 4 },
  ...{ splits: 1, slices: 1, depth: 64, ahead: 1 },
};
const two: ProductLayout = { ...one, rowTiles: 2, ahead: 2 };
const three: ProductLayout = { ...one, rowTiles: 3 };
const four: ProductLayout = { ...one, rowTiles: 2, rowGroups: 2 };
const eight: ProductLayout = { ...one, rowTiles: 4, rowGroups: 2 };
const wide: ProductLayout = { ...eight, columnTiles: 2 };

/** From so many outputs on a product has workgroups enough for a large GPU, and for most of one. */
const [many, several] = [16384, 8192];

/** What products are laid out by, the first that takes a shape. */
export const matrixLayouts: readonly (MatrixUse & { readonly layout: ProductLayout })[] = [
  { most: 16, outputs: many, layout: { ...one, splits: 4 } },
  { most: 16, outputs: several, layout: { ...one, columnGroups: 2, splits: 2 } },
  { most: 16, layout: { ...one, columnGroups: 2, splits: 4 } },
  { most: 16, layout: one },
  { most: 32, outputs: many, layout: two },
  { most: 32, outputs: several, layout: { ...two, slices: 2 } },
  { most: 32, layout: { ...one, splits: 4 } },
  { most: 32, layout: two },
  { most: 48, outputs: many, layout: { ...three, ahead: 2 } },
  { most: 48, outputs: several, layout: { ...three, slices: 2 } },
  { most: 48, layout: { ...three, slices: 4, ahead: 2 } },
  { most: 48, layout: three },
  { most: 64, outputs: several, layout: { ...four, columnGroups: 2 } },
  { most: 64, layout: { ...four, slices: 4 } },
  { most: 64, layout: four },
  { most: 128, outputs: many, layout: wide },
  { most: 128, layout: { ...eight, slices: 4 } },
  { most: Infinity, layout: wide },
];

/** Elements that the sums of a shared product take; 0 where it is better not shared: many outputs fill a GPU by themselves. */
export function sharedSums({ tier }: Device, rows: number, outputs: number): number {
  if (tier.matmul !== 'matrix') return 0;
  const use = matrixLayouts.find(({ most, outputs: least = 0 }) => rows <= most && outputs >= least);
  const slices = use?.layout.slices ?? 1;
  return slices > 1 ? slices * paddedRows(rows) * paddedOutputs(outputs) : 0;
}

/**
 * Elements of room for which products of up to `rows` rows are faster: for sums that several workgroups have of one result.
 * 0 where a device, or so many outputs, have no use for it.
 */
export function partialSums(device: Device, rows: number, outputs: number): number {
  return Math.max(...[32, 48, 64, 128].map((size) => sharedSums(device, Math.min(size, rows), outputs)));
}

const paddedRows = (rows: number) => [32, 64].find((size) => rows <= size) ?? 128;
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

/** What products of few rows are for. */
export interface RowUse {
  /** Default: all. */
  readonly formats?: readonly WeightFormat[];
  /** Outputs of a subgroup. Default 1. */
  readonly outputs?: number;
}

/** Products of up to `rows` rows, so few that multiplying is cheap. Subgroups of 32. */
export function rowProduct(rows: number, { formats, outputs = 1 }: RowUse = {}): Variant {
  const name = `row${rows}${outputs > 1 ? `x${outputs}` : ''}`;
  const code = (product: Product): Kernel => {
    const { format, x, y } = product;
    const { aliases, constants, chunks } = normChunks(product, 'product');
    return kernel(
      `matmul_${name}_${format}`,
      {
        enable: ['f16', 'subgroups'],
        aliases: { Y: y, XUnit: operandUnit[x], ...aliases },
        constants: { ROWS: rows, OUTPUTS: outputs, ...constants },
      },
      weightLoads[format],
      format === 'int8' || format === 'int4' ? halfDots : exactDots,
      matrixBindings,
      operandLoads[x],
      ...storeChunks(product),
      ...chunks,
      rowBody,
    );
  };
  return {
    name,
    squareParts: (shape) => Math.ceil(shape.outputs / (4 * outputs)),
    takes: (shape) =>
      shape.rows <= rows && (formats?.includes(shape.format) ?? true) && shape.columns % 8 === 0,
    record: (pass, tensors, shape, product) =>
      pass.run(code(product), tensors, [Math.ceil(shape.outputs / (4 * outputs))]),
  };
}

function constantsOf(layout: ProductLayout): Record<string, number> {
  const { rowTiles, rowGroups, columnTiles, columnGroups, splits, slices, depth, ahead } = layout;
  return {
    ...{ ROW_TILES: rowTiles, ROW_GROUPS: rowGroups, COLUMN_TILES: columnTiles },
    ...{ COLUMN_GROUPS: columnGroups, SPLITS: splits, SLICES: slices, DEPTH: depth, AHEAD: ahead },
  };
}

/** How sums leave a kernel, and how many of them workgroup memory holds then. */
function finishOf(layout: ProductLayout): { readonly body: string; readonly sums: number } {
  const { rowTiles, rowGroups, columnTiles, columnGroups, splits, slices } = layout;
  if (slices > 1) return { body: finishSlice, sums: 0 };
  const groups = rowGroups * columnGroups;
  const tiles = rowTiles * columnTiles;
  if (tiles === 8) return { body: finishInTurns, sums: 256 * groups };
  return { body: finishAtOnce, sums: 256 * groups * tiles * splits };
}

function checkLayout(layout: ProductLayout): void {
  const { rowTiles, columnTiles, splits, slices, depth } = layout;
  const wrong = (why: string) => new InvalidOptionError(`layout ${JSON.stringify(layout)}: ${why}`);
  if (rowTiles * columnTiles > 4 && !(rowTiles === 4 && columnTiles === 2))
    throw wrong('a subgroup has up to 4 tiles, or 4 × 2');
  if (splits > 1 && (slices > 1 || rowTiles * columnTiles === 8))
    throw wrong('splits are added up by a workgroup that holds all sums at once');
  if (depth % 16 !== 0) throw wrong('a round takes whole tiles of columns');
}

/** Workgroup memory that a kernel takes: for the tiles of a round, and then for sums. */
function workgroupBytes(layout: ProductLayout): number {
  const { rowTiles, rowGroups, columnTiles, columnGroups, splits, depth } = layout;
  const tiles = rowTiles * rowGroups + columnTiles * columnGroups;
  return Math.max(256 * tiles * ((depth * splits) / 8 + 1), 4 * finishOf(layout).sums);
}

/** A kernel of `matrixBody`, with chunks for where its results go. */
function matrixKernel(
  name: string,
  { format, x, y }: Product,
  { aliases, constants }: Pick<Prelude, 'aliases' | 'constants'>,
  ...chunks: readonly string[]
): Kernel {
  const prelude: Prelude = {
    enable: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
    directives: ['diagnostic(off, chromium.subgroup_matrix_uniformity);'],
    aliases: { Y: y, XUnit: operandUnit[x], ...aliases },
    ...(constants && { constants }),
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

/**
 * Products with one layout, for tier `matrix`.
 * @throws InvalidOptionError for a layout that the kernel does not have.
 */
export function matrixProduct(layout: ProductLayout, { most: rows, outputs = 0 }: MatrixUse): Variant {
  checkLayout(layout);
  const { rowTiles, rowGroups, columnTiles, columnGroups, splits, slices, depth } = layout;
  const tileRows = 16 * rowTiles * rowGroups;
  const tileOutputs = 16 * columnTiles * columnGroups;
  const grid = (shape: ProductShape) =>
    [Math.ceil(shape.outputs / tileOutputs), Math.ceil(shape.rows / tileRows), slices] as const;
  const shares = [splits > 1 && `_splits${splits}`, slices > 1 && `_slices${slices}`].filter(Boolean);
  const name = `matrix${tileRows}x${tileOutputs}${shares.join('')}`;
  const bytes = workgroupBytes(layout);
  const width = 32 * rowGroups * columnGroups * splits;
  const constants = constantsOf(layout);
  const { body } = finishOf(layout);
  const parts = (shape: ProductShape) => Math.ceil(shape.outputs / (slices > 1 ? 64 : tileOutputs));
  return {
    name,
    ...(body !== finishInTurns && { squareParts: parts }),
    takes: (shape, { gpu: { limits } }, partial) =>
      bytes <= limits.maxComputeWorkgroupStorageSize &&
      width <= limits.maxComputeInvocationsPerWorkgroup &&
      shape.rows <= rows &&
      shape.outputs >= outputs &&
      shape.columns % (depth * splits * slices) === 0 &&
      (slices === 1 || (partial && tileRows <= paddedRows(shape.rows) && 64 % tileOutputs === 0)),
    record: (pass, tensors, shape, product) => {
      if (slices === 1) {
        pass.run(wholeKernel(name, product, constants, body), tensors, grid(shape));
        return;
      }
      const sizes = { ROWS: paddedRows(shape.rows), PARTIAL_STRIDE: paddedOutputs(shape.outputs) };
      const prelude = { constants: { ...constants, ...sizes } };
      pass.run(matrixKernel(name, product, prelude, sliceBindings, body), tensors, grid(shape));
      pass.run(addSlices(product, { ...sizes, SLICES: slices }), tensors, [
        Math.ceil(shape.outputs / 2 / 64),
        shape.rows,
      ]);
    },
  };
}

/** A product that one workgroup finishes. */
function wholeKernel(
  name: string,
  product: Product,
  constants: Record<string, number>,
  body: string,
): Kernel {
  const norm = normChunks(product, 'product');
  const prelude = { aliases: norm.aliases, constants: { ...constants, ...norm.constants } };
  const chunks = body === finishInTurns ? [] : norm.chunks;
  return matrixKernel(name, product, prelude, matrixBindings, ...storeChunks(product), ...chunks, body);
}

function addSlices(product: Product, sizes: Record<string, number>): Kernel {
  const { aliases, constants, chunks } = normChunks(product, 'slices');
  const prelude = {
    enable: ['f16', 'subgroups'],
    aliases: { Y: product.y, ...aliases },
    constants: { ...sizes, ...constants },
  };
  return kernel(
    'matmul_add_slices',
    prelude,
    addSlicesBindings,
    ...storeChunks(product),
    ...chunks,
    addSlicesBody,
  );
}

/** Products on tier `matrix`, the first that takes a shape is taken. */
export const matrixVariants: readonly Variant[] = [
  rowProduct(1, { formats: ['int4'], outputs: 2 }),
  rowProduct(1),
  rowProduct(2, { formats: ['f32', 'f16', 'int8'] }),
  rowProduct(2, { formats: ['int4'], outputs: 4 }),
  rowProduct(4, { formats: ['int8'], outputs: 2 }),
  rowProduct(4, { formats: ['int4'], outputs: 4 }),
  ...matrixLayouts.map(({ layout, ...use }) => matrixProduct(layout, use)),
];
