import { matmul, productVariant, teamProduct } from '@ensample/tensor';
import { onEmulated } from '@ensample/testing';
import { expect, test } from 'vitest';
import { teamLayouts, type TeamLayout } from '../src/kernels/matmul-layouts.ts';
import { checkProduct, outputsOf, products, type Run } from './product-check.ts';

// Of a GPU without subgroup matrices what is its own.
const one: TeamLayout = { blocks: 1, groups: 1, rowGroups: 1, splits: 1, sides: 1 };
const small: TeamLayout = { ...one, blocks: 2, groups: 2, rowGroups: 2, splits: 2 };

await onEmulated('f16', (device) => {
  /** Rows of every team are taken: those of a row group, and more than a workgroup has. */
  const runs = (most: number): Run[] =>
    [most, 2 * most].map((capacity) => ({ capacity, active: capacity - 1, columns: 96 * (capacity / most) }));

  const named = teamLayouts.map(
    ({ layout }) => [teamProduct(layout, { most: Infinity }).name, layout] as const,
  );
  test.each([...new Map(named)])('%s', async (_, layout) => {
    const variant = teamProduct(layout, { most: Infinity });
    const product = products[1]!;
    await checkProduct(
      device(),
      product,
      runs(4 * layout.blocks * layout.rowGroups),
      (pass, tensors, { rows }) => matmul(pass, tensors, { rows, store: product.store, variant }),
    );
  });

  test.each(products)('$format weights, $store, $x to $y', async (product) => {
    const variant = teamProduct(small, { most: Infinity });
    await checkProduct(device(), product, runs(16), (pass, tensors, { rows }) =>
      matmul(pass, tensors, { rows, store: product.store, variant }),
    );
  });

  // No shape is given these: `bench gpu --only tune-matmul` tries them on a card.
  const others: readonly TeamLayout[] = [
    { ...one, blocks: 3, groups: 3 },
    { ...one, blocks: 2, rowGroups: 2, splits: 3, sides: 2 },
    { ...one, groups: 4, splits: 16 },
  ];
  test.each(others)('%j', async (layout) => {
    const variant = teamProduct(layout, { most: 50 });
    for (const product of [products[3]!, products[0]!]) {
      await checkProduct(
        device(),
        product,
        runs(4 * layout.blocks * layout.rowGroups),
        (pass, tensors, { rows }) => matmul(pass, tensors, { rows, variant }),
      );
    }
  });

  test('a layout whose sums have no room is refused', () => {
    expect(() => teamProduct({ ...one, groups: 8, splits: 2 }, { most: 4 })).toThrow('where x was');
  });

  test('matmul chooses among them by rows', async () => {
    const counts = [2, 3, 4, 9, 16, 17, 40, 70].map((rows) => ({
      capacity: rows,
      active: rows - 1,
      columns: 104,
    }));
    for (const { capacity } of counts) {
      const shape = { rows: outputsOf(products[1]!), columns: 104, format: 'f16' } as const;
      expect(productVariant(device(), capacity, shape)).toMatch(/^team/);
    }
    await checkProduct(device(), products[1]!, counts, (pass, tensors, { rows }) =>
      matmul(pass, tensors, { rows, store: 'accumulate' }),
    );
  });
});
