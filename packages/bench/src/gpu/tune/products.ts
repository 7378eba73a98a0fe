import {
  InvalidOptionError,
  matmul,
  matrixProduct,
  partialSums,
  teamProduct,
  type Matrix,
  type ProductLayout,
  type Variant,
} from '@ensample/tensor';
import { attempt, type Bench, type GpuOptions, type Job } from '../bench.ts';
import { productRow, withMatrices, type Product } from '../products.ts';
import { climb, expectMatrixTier, nameOf, type Choices } from './climb.ts';

/** Row counts, the most interesting first. */
const rowCounts = [16, 4, 32, 1, 64, 8];

const allChoices: Choices<ProductLayout> = {
  rowTiles: [1, 2, 4],
  columnTiles: [1, 2, 4],
  rowGroups: [1, 2, 4],
  columnGroups: [1, 2, 4, 8],
  splits: [1, 2, 4],
  slices: [1, 2, 4, 8],
  depth: [32, 64, 128],
  buffers: [1, 2],
};

/** Where climbs begin: four subgroups that meet in barriers, and subgroups by themselves. */
const starts: readonly ProductLayout[] = [
  ...[4, 1].map((columnGroups) => ({
    ...{ rowTiles: 1, columnTiles: 1, rowGroups: 1, columnGroups },
    ...{ splits: 1, slices: 1, depth: 64, buffers: 1 as const },
  })),
];

/** Looks for the best layout of products on subgroup matrices: shapes and formats as in the section matmul. */
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
  choices: Choices<ProductLayout> = allChoices,
): Promise<void> {
  expectMatrixTier(bench);
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
  choices: Choices<ProductLayout>,
): Promise<void> {
  const { device, report } = bench;
  const { rows, outputs } = product;
  const add = async (way: string, multiply: typeof matmul, room: number) => {
    const row = await productRow(bench, product, matrices, { multiply, room });
    await report.add({ ...row, section: 'tune', way });
    return row['us'] as number;
  };
  const now = await add('now', matmul, partialSums(device, rows, outputs));
  const room = Math.max(...choices.slices) * 128 * (outputs + 64);
  const measure = async (layout: ProductLayout): Promise<number> => {
    let us = Infinity;
    await attempt(bench, nameOf(layout), async () => {
      const variant = variantOf(layout);
      if (!variant?.takes({ ...product, format: product.weights }, device, true)) return;
      us = await add(nameOf(layout), by(variant), room);
    });
    return us;
  };
  for (const most of [1, 2, 4, 8, 16].filter((size) => size >= rows && size < 4 * rows)) {
    const variant = teamProduct(most);
    await attempt(bench, variant.name, async () => {
      await add(variant.name, by(variant), 0);
    });
  }
  for (const start of starts) {
    const rowTiles = Math.min(4, Math.ceil(rows / 16));
    const { layout, cost } = await climb({ ...start, rowTiles }, choices, measure);
    report.log(`best: ${nameOf(layout)}, ${cost.toFixed(1)} µs; now ${now.toFixed(1)}`);
  }
}

/** Products in one way. */
function by(variant: Variant): typeof matmul {
  return (pass, tensors, options) => matmul(pass, tensors, { ...options, variant });
}

/** A layout's kernel; undefined where there is none. */
function variantOf(layout: ProductLayout): Variant | undefined {
  try {
    return matrixProduct(layout, { most: Infinity });
  } catch (error) {
    if (error instanceof InvalidOptionError) return undefined;
    throw error;
  }
}
