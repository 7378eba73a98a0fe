import type { WeightStorage } from './matrix.ts';
import type { ProductShape } from './product.ts';

/** Which products a layout is for. Thresholds are measured (docs/performance-log.md). */
export interface LayoutUse {
  /** Rows. */
  readonly most: number;
  /** Outputs, at least. */
  readonly outputs?: number;
  /** Outputs, fewer than. */
  readonly below?: number;
  /** Default: all. */
  readonly formats?: readonly WeightStorage[];
}

/** Whether a layout is for products of such a shape. */
export function isFor(
  { most, outputs = 0, below = Infinity, formats }: LayoutUse,
  { rows, outputs: all, format }: Pick<ProductShape, 'rows' | 'outputs' | 'format'>,
): boolean {
  return rows <= most && all >= outputs && all < below && (!formats || formats.includes(format));
}

/** How products of few rows are laid out; see `rowBody`. */
export interface RowLayout {
  /** Outputs that an invocation has a share of. */
  readonly outputs: 1 | 2 | 4;
  /** Invocations of a subgroup that share the columns of W, and subgroups that do. */
  readonly lanes: 4 | 8 | 16 | 32;
  readonly splits: 1 | 2 | 4 | 8 | 16;
  /**
   * Subgroups of a workgroup: the fewer workgroups, the fewer parts there are of the squares that a norm is made of, which the
   * next product adds up in each of its own.
   */
  readonly subgroups: 8 | 16;
}

/** How a product is laid out for teams of invocations, each with four outputs; see `teamBody`. */
export interface TeamLayout {
  /** Blocks of four rows that a team computes. */
  readonly blocks: 1 | 2 | 3 | 4;
  /** Teams side by side, for other outputs and for other rows. */
  readonly groups: number;
  readonly rowGroups: number;
  /** Teams that share the columns of W. */
  readonly splits: number;
  /** Rounds whose operands workgroup memory holds. */
  readonly sides: 1 | 2;
}

/** How a product of weights in panels is laid out on subgroup matrices; see `panelBody`. */
export interface PanelLayout {
  /** Tiles of eight rows. */
  readonly rowTiles: number;
  /** Panels of 16 outputs that a subgroup computes, and subgroups side by side for others. */
  readonly panels: number;
  readonly groups: number;
  /** Subgroups of a workgroup that share the columns of W. */
  readonly splits: number;
  /** Eights of columns of a split that a round takes. */
  readonly depth: number;
  /** Rounds whose operands workgroup memory holds. */
  readonly sides: 1 | 2;
}

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

const floats: readonly WeightStorage[] = ['f32', 'f16'];

/** From so many outputs on a product has workgroups enough for a large GPU, and for most of one; with fewer than `few` it has hardly any. */
const [vast, many, several, few] = [24576, 16384, 8192, 2560];

const row = { outputs: 1, lanes: 32, splits: 1, subgroups: 8 } as const;

/** What products of few rows are laid out by, the first that takes a shape. */
export const rowLayouts: readonly (LayoutUse & { readonly layout: RowLayout })[] = [
  { most: 2, formats: ['panels'], below: few, layout: { outputs: 1, lanes: 8, splits: 16, subgroups: 16 } },
  { most: 2, formats: ['panels'], layout: { outputs: 2, lanes: 4, splits: 16, subgroups: 16 } },
  { most: 1, formats: ['int8'], layout: { ...row, outputs: 2, splits: 4 } },
  { most: 1, formats: ['int4'], outputs: several, layout: { ...row, outputs: 2 } },
  { most: 1, formats: ['int4'], layout: { ...row, outputs: 2, splits: 2 } },
  { most: 1, layout: { ...row, splits: 2 } },
  { most: 2, formats: ['int4'], outputs: many, layout: { ...row, outputs: 4, lanes: 16, splits: 8 } },
  { most: 2, formats: ['int4'], outputs: several, layout: { ...row, outputs: 4, lanes: 16, splits: 2 } },
  { most: 2, formats: ['int4'], layout: { ...row, outputs: 4, lanes: 16, splits: 4 } },
  { most: 2, formats: ['int8'], outputs: several, layout: { ...row, outputs: 2, lanes: 16, splits: 2 } },
  { most: 2, formats: ['int8'], layout: { ...row, outputs: 2, lanes: 16, splits: 4 } },
  { most: 2, layout: { ...row, splits: 2 } },
  { most: 4, formats: ['int4'], outputs: many, layout: { ...row, outputs: 4, lanes: 16, splits: 4 } },
  { most: 4, formats: ['int4'], outputs: several, layout: { ...row, outputs: 4 } },
  { most: 4, formats: ['int4', 'int8'], layout: { ...row, outputs: 4, splits: 2 } },
  { most: 4, formats: floats, layout: { ...row, outputs: 4, lanes: 16, splits: 4 } },
];

const panel: PanelLayout = { rowTiles: 1, panels: 1, groups: 4, splits: 2, depth: 8, sides: 2 };
/** Few outputs a workgroup, whose columns many subgroups share. */
const narrow: PanelLayout = { ...panel, groups: 2, splits: 8, depth: 4 };
/** Many rows. */
const tall: PanelLayout = { ...panel, rowTiles: 8, panels: 2, depth: 4, sides: 1 };
/** For columns that only short rounds divide; not measured. */
const short: PanelLayout = { ...panel, groups: 2, splits: 4, depth: 2 };

const one: ProductLayout = {
  ...{ rowTiles: 1, columnTiles: 1, rowGroups: 1, columnGroups: 4 },
  ...{ splits: 1, slices: 1, depth: 64, ahead: 1 },
};
/** Few outputs a workgroup, whose columns many subgroups share. */
const shared: ProductLayout = { ...one, columnGroups: 1, splits: 8, depth: 32 };
const two: ProductLayout = { ...one, rowTiles: 2, ahead: 2 };
const three: ProductLayout = { ...one, rowTiles: 3 };
const four: ProductLayout = { ...one, rowTiles: 2, rowGroups: 2 };
const eight: ProductLayout = { ...one, rowTiles: 4, rowGroups: 2 };
const wide: ProductLayout = { ...eight, columnTiles: 2 };

/** What products are laid out by on subgroup matrices, the first that takes a shape. */
export const matrixLayouts: readonly (LayoutUse & { readonly layout: ProductLayout | PanelLayout })[] = [
  { most: 8, formats: ['panels'], below: few, layout: { ...narrow, groups: 1, splits: 16 } },
  { most: 8, formats: ['panels'], outputs: several, layout: { ...panel, groups: 2, splits: 4 } },
  { most: 8, formats: ['panels'], layout: { ...narrow, groups: 1, depth: 8 } },
  { most: 8, formats: ['panels'], layout: narrow },
  { most: 8, formats: ['panels'], layout: short },
  { most: 16, formats: ['panels'], below: few, layout: { ...narrow, rowTiles: 2, groups: 1, splits: 16 } },
  // So little workgroup memory that all of a head's workgroups run at once.
  { most: 16, formats: ['panels'], outputs: vast, layout: { ...panel, rowTiles: 2, sides: 1 } },
  { most: 16, formats: ['panels'], outputs: many, layout: { ...panel, rowTiles: 2 } },
  {
    most: 16,
    formats: ['panels'],
    outputs: several,
    layout: { ...panel, rowTiles: 2, groups: 2, splits: 4, sides: 1 },
  },
  { most: 16, formats: ['panels'], layout: { ...narrow, rowTiles: 2 } },
  { most: 16, formats: ['panels'], layout: { ...short, rowTiles: 2 } },
  { most: 32, formats: ['panels'], outputs: vast, layout: { ...panel, rowTiles: 4, depth: 4, sides: 1 } },
  { most: 32, formats: ['panels'], outputs: many, layout: { ...panel, rowTiles: 4, sides: 1 } },
  { most: 32, formats: ['panels'], outputs: several, layout: { ...panel, rowTiles: 4 } },
  { most: 32, formats: ['panels'], layout: { ...narrow, rowTiles: 4 } },
  { most: 32, formats: ['panels'], layout: { ...short, rowTiles: 4 } },
  { most: 16, formats: ['int4'], outputs: many, layout: one },
  { most: 16, formats: floats, outputs: many, layout: { ...one, splits: 4, depth: 32 } },
  { most: 16, outputs: several, layout: { ...one, columnGroups: 2, splits: 2 } },
  { most: 16, below: few, layout: { ...shared, depth: 64 } },
  { most: 16, formats: ['int4'], layout: { ...shared, splits: 4, depth: 64 } },
  { most: 16, layout: shared },
  { most: 16, layout: one },
  { most: 32, outputs: vast, layout: { ...two, columnTiles: 2, columnGroups: 1, splits: 2 } },
  { most: 32, outputs: many, layout: two },
  { most: 32, outputs: several, layout: { ...two, slices: 2 } },
  { most: 32, below: few, layout: { ...shared, rowTiles: 2 } },
  { most: 32, layout: { ...one, rowTiles: 2, columnGroups: 2, splits: 4 } },
  { most: 32, layout: two },
  { most: 48, formats: ['panels'], outputs: many, layout: { ...panel, rowTiles: 6, panels: 2, sides: 1 } },
  { most: 48, formats: ['panels'], outputs: several, layout: { ...panel, rowTiles: 6, panels: 2 } },
  { most: 64, formats: ['panels'], below: several, layout: { ...panel, rowTiles: 4, splits: 4 } },
  { most: 48, outputs: many, layout: { ...three, ahead: 2 } },
  { most: 48, outputs: several, layout: { ...three, slices: 2 } },
  { most: 48, layout: { ...three, slices: 4, ahead: 2 } },
  { most: 48, layout: three },
  { most: 64, formats: ['panels'], outputs: vast, layout: tall },
  { most: 64, formats: ['panels'], outputs: many, layout: { ...tall, groups: 2 } },
  { most: 64, outputs: several, layout: { ...four, columnGroups: 2 } },
  { most: 64, layout: { ...four, slices: 4 } },
  { most: 64, layout: four },
  { most: 128, outputs: many, layout: wide },
  { most: 128, layout: { ...eight, slices: 4 } },
  { most: Infinity, layout: wide },
];

const team: TeamLayout = { blocks: 4, groups: 4, rowGroups: 1, splits: 8, sides: 2 };

const teams: readonly (LayoutUse & { readonly layout: TeamLayout })[] = [
  { most: 4, outputs: several, layout: { ...team, blocks: 1 } },
  { most: 4, layout: { ...team, blocks: 1, groups: 2, splits: 16 } },
  { most: 8, layout: { ...team, blocks: 2, splits: 16 } },
  { most: 16, outputs: several, layout: { ...team, splits: 4, sides: 1 } },
  { most: 16, layout: team },
  { most: 32, outputs: several, layout: { ...team, rowGroups: 2, splits: 4, sides: 1 } },
  { most: 32, layout: { ...team, rowGroups: 2, splits: 4 } },
  { most: Infinity, layout: { ...team, rowGroups: 4, splits: 2 } },
];

/** What products are laid out by for teams of invocations, the first that takes a shape: with one side where two have no room. */
export const teamLayouts: typeof teams = [
  ...teams,
  ...teams.map((use) => ({ ...use, layout: { ...use.layout, sides: 1 as const } })),
];
