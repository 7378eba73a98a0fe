import {
  InvalidOptionError,
  matmul,
  matrixProduct,
  panelProduct,
  partialSums,
  rowProduct,
  teamProduct,
  type Matrix,
  type PanelLayout,
  type ProductLayout,
  type RowLayout,
  type TeamLayout,
  type Variant,
  type WeightStorage,
} from '@ensample/tensor';
import { attempt, type Bench, type GpuOptions, type Job } from '../bench.ts';
import { productRow, withMatrices, type Product } from '../products.ts';
import { nameOf, search, type Choices } from './climb.ts';

/** Row counts, the most interesting first. */
const rowCounts = [16, 4, 32, 1, 64, 8];

const matrixChoices: Choices<ProductLayout> = {
  rowTiles: [1, 2, 4],
  columnTiles: [1, 2, 4],
  rowGroups: [1, 2, 4],
  columnGroups: [1, 2, 4, 8],
  splits: [1, 2, 4, 8],
  slices: [1, 2, 4, 8],
  depth: [32, 64, 128],
  ahead: [1, 2],
};

/** Where climbs begin: four subgroups that meet in barriers, and subgroups by themselves. */
const starts: readonly ProductLayout[] = [
  ...[4, 1].map((columnGroups) => ({
    ...{ rowTiles: 1, columnTiles: 1, rowGroups: 1, columnGroups },
    ...{ splits: 1, slices: 1, depth: 64, ahead: 1 as const },
  })),
];

const rowChoices: Choices<RowLayout> = {
  outputs: [1, 2, 4],
  lanes: [4, 8, 16, 32],
  splits: [1, 2, 4, 8, 16],
  subgroups: [8, 16],
};
const rowStart: RowLayout = { outputs: 1, lanes: 32, splits: 2, subgroups: 8 };
/** Rows that one kernel computes row by row. */
const rowSizes = [1, 2, 4, 8];

const panelChoices: Choices<PanelLayout> = {
  rowTiles: [1, 2, 4, 6, 8],
  panels: [1, 2],
  groups: [1, 2, 4],
  splits: [1, 2, 4, 8, 16],
  depth: [2, 4, 8, 16],
  sides: [1, 2],
};
const panelStart: PanelLayout = {
  rowTiles: 1,
  panels: 1,
  groups: 2,
  splits: 4,
  depth: 8,
  sides: 2,
};

const teamChoices: Choices<TeamLayout> = {
  blocks: [1, 2, 3, 4],
  groups: [1, 2, 4, 8],
  rowGroups: [1, 2, 4],
  splits: [1, 2, 4, 8, 16],
  sides: [1, 2],
};

/** Where layouts may lie. */
export interface ProductChoices {
  readonly matrices: Choices<ProductLayout>;
  readonly panels: Choices<PanelLayout>;
  readonly rows: Choices<RowLayout>;
  readonly teams: Choices<TeamLayout>;
}

/** What they may be. */
export const allChoices: ProductChoices = {
  matrices: matrixChoices,
  panels: panelChoices,
  rows: rowChoices,
  teams: teamChoices,
};

/**
 * Looks for the best layout of products: on subgroup matrices and row by row, or by teams where there are none. Shapes and formats
 * as in the section matmul.
 */
export function productTuning({ weights, products, n = rowCounts }: GpuOptions): Job[] {
  return weights.flatMap((format, k) =>
    products.map(([outputs, columns], i) => ({
      name: `tune matmul ${format} ${outputs} × ${columns}`,
      rank: 30 + k + i / 100,
      run: (bench) => tuneProducts(bench, { weights: format, outputs, columns }, n),
    })),
  );
}

/** Adds a row for each layout that is met, and says which was the fastest. @param choices default: all */
export async function tuneProducts(
  bench: Bench,
  shape: Omit<Product, 'rows'>,
  rowCounts: readonly number[],
  choices: ProductChoices = allChoices,
): Promise<void> {
  const { tier } = bench.device;
  if (tier.reduce !== 'subgroup')
    throw new InvalidOptionError(`tier ${tier.name} has no layouts: only those with subgroups can be tuned`);
  await withMatrices(bench, shape, async (matrices) => {
    for (const rows of rowCounts) {
      await attempt(bench, `tune matmul ${rows} × ${shape.outputs}`, () =>
        tune(bench, { ...shape, rows }, matrices, choices),
      );
    }
  });
}

async function tune(
  bench: Bench,
  product: Product,
  matrices: readonly Matrix[],
  choices: ProductChoices,
): Promise<void> {
  const { device, report } = bench;
  const { rows, outputs } = product;
  const add = async (way: string, multiply: typeof matmul, room: number) => {
    const row = await productRow(bench, product, matrices, { multiply, room });
    await report.add({ ...row, section: 'tune', way });
    return row['us'] as number;
  };
  const { storage = product.weights } = matrices[0] ?? {};
  const now = await add('now', matmul, partialSums(device, rows, outputs));
  const room = Math.max(...choices.matrices.slices) * 128 * (outputs + 64);
  const time: Time = async (layout, make) => {
    const variant = made(make);
    return variant?.takes({ ...product, format: storage }, device, true)
      ? add(nameOf(layout), (pass, tensors, options) => matmul(pass, tensors, { ...options, variant }), room)
      : undefined;
  };
  if (device.tier.matmul === 'matrix') await tuneMatrices(bench, { rows, storage, now }, choices, time);
  else await tuneTeams(bench, { rows, now }, choices, time);
}

/** µs of a layout's product; undefined for a layout that cannot be. */
type Time = (layout: object, make: () => Variant) => Promise<number | undefined>;

async function tuneMatrices(
  bench: Bench,
  { rows, storage, now }: { readonly rows: number; readonly storage: WeightStorage; readonly now: number },
  choices: ProductChoices,
  time: Time,
): Promise<void> {
  const size = rowSizes.find((most) => most >= rows);
  if (size) {
    await search(bench, { start: rowStart, choices: choices.rows, now }, (layout) =>
      time(layout, () => rowProduct(layout, { most: size })),
    );
  }
  if (storage === 'panels') {
    const start = { ...panelStart, rowTiles: rows > 8 ? 2 * Math.ceil(rows / 16) : 1 };
    await search(bench, { start, choices: choices.panels, now }, (layout) =>
      time(layout, () => panelProduct(layout, { most: Infinity })),
    );
  }
  for (const one of starts) {
    const start = { ...one, rowTiles: Math.min(4, Math.ceil(rows / 16)) };
    await search(bench, { start, choices: choices.matrices, now }, (layout) =>
      time(layout, () => matrixProduct(layout, { most: Infinity })),
    );
  }
}

async function tuneTeams(
  bench: Bench,
  { rows, now }: { readonly rows: number; readonly now: number },
  choices: ProductChoices,
  time: Time,
): Promise<void> {
  const blocks = ([1, 2, 4] as const).find((size) => 4 * size >= rows) ?? 4;
  const rowGroups = [1, 2, 4].find((size) => 16 * size >= rows) ?? 4;
  const start: TeamLayout = { blocks, groups: 4, rowGroups, splits: 2, sides: 2 };
  await search(bench, { start, choices: choices.teams, now }, (layout) =>
    time(layout, () => teamProduct(layout, { most: Infinity })),
  );
}

/** A layout's kernel; undefined where there is none. */
function made(make: () => Variant): Variant | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof InvalidOptionError) return undefined;
    throw error;
  }
}
