import {
  addAndNorm,
  matmul,
  matrixProduct,
  normRows,
  normSums,
  panelProduct,
  partialSums,
  rowProduct,
  uploadMatrix,
  type Device,
  type Operand,
  type ProductLayout,
} from '@ensample/tensor';
import {
  compute,
  expectClose,
  gatedReference,
  matmulReference,
  onEmulated,
  randomMatrix,
  readValues,
  rmsNormReference,
  scope,
  seeded,
  storedValues,
  tolerance,
  uploadBatch,
  uploadValues,
} from '@ensample/testing';
import { describe, expect, test } from 'vitest';
import { matrixLayouts, rowLayouts } from '../src/kernels/matmul-layouts.ts';
import type { Variant } from '../src/kernels/product.ts';
import { checkProduct, formatOf, outputsOf, products, type Run } from './product-check.ts';

/** Row capacities and columns to try a variant with; those that it takes are. */
const capacities = [1, 2, 7, 8, 16, 17, 32, 48, 50, 64, 128, 130];
const columns = [64, 128, 256, 512];
/** Rounds of panels are few columns: these are many. */
const manyColumns = 1536;

/** What a variant takes: its fewest columns, all rows and fewer; and its most rows with more columns. */
function runsOf(device: Device, variant: Variant, product: (typeof products)[number]): Run[] {
  const outputs = outputsOf(product);
  const takes = (rows: number, width: number) =>
    variant.takes({ rows, outputs, columns: width, format: product.format }, device, true);
  const [fewest, second] = columns.filter((width) => capacities.some((rows) => takes(rows, width)));
  const more = product.format === 'panels' ? manyColumns : second;
  if (fewest === undefined) return [];
  const most = capacities.filter((rows) => takes(rows, fewest)).at(-1)!;
  return [
    { capacity: most, active: most, columns: fewest },
    { capacity: most, active: Math.ceil(0.6 * most), columns: more ?? fewest },
  ];
}

await onEmulated('matrix', (device) => {
  // Of any number of outputs, and each once.
  const rows = rowLayouts.map(({ layout, most, formats }) => ({
    variant: rowProduct(layout, { most }),
    formats,
  }));
  const matrices = matrixLayouts.map(({ layout, most, formats }) => ({
    variant: 'panels' in layout ? panelProduct(layout, { most }) : matrixProduct(layout, { most }),
    formats,
  }));
  const all = [...rows, ...matrices].map((way) => [way.variant.name, way] as const);
  // Large tiles are slow to compile: for them, a format whose loads fill a workgroup, and the one whose loads do not.
  const large = (name: string) => /^matrix(48|64|128)/.test(name);
  describe.each(products)('$format weights, $store, $x to $y', (product) => {
    const { format } = product;
    const own = all.filter(
      ([name, { formats = [format] }]) =>
        formats.includes(format) && (!large(name) || format === 'f16' || format === 'int4'),
    );
    test.each([...new Map(own)])('%s', async (_, { variant }) => {
      const runs = runsOf(device(), variant, product);
      expect(runs).not.toEqual([]);
      await checkProduct(device(), product, runs, (pass, { weights, partial, ...tensors }, shape) => {
        const { words, scales, dims } = weights.blocks[0]!;
        variant.record(pass, { ...tensors, words, scales, dims, partial: partial! }, shape, product);
      });
    });
  });

  // No shape is given these: `bench gpu --only tune-matmul` tries them on a card.
  const others: Record<string, ProductLayout> = {
    'two rounds ahead, a subgroup a workgroup': {
      ...{ rowTiles: 1, columnTiles: 2, rowGroups: 1, columnGroups: 1 },
      ...{ splits: 1, slices: 1, depth: 64, ahead: 2 },
    },
    'two rounds ahead, slices': {
      ...{ rowTiles: 2, columnTiles: 1, rowGroups: 1, columnGroups: 2 },
      ...{ splits: 1, slices: 2, depth: 32, ahead: 2 },
    },
  };
  test.each(Object.entries(others))('%s', async (_, layout) => {
    const variant = matrixProduct(layout, { most: 50 });
    for (const rows of [7, 50]) {
      const run = { capacity: rows, active: rows, columns: 256 };
      await checkProduct(device(), products[1]!, [run], (pass, tensors, shape) =>
        matmul(pass, tensors, { rows: shape.rows, store: 'accumulate', variant }),
      );
    }
  });

  /** A product whose workgroups share columns, as those of more outputs than are here do. */
  const inSlices = matrixProduct(others['two rounds ahead, slices']!, { most: 50 });

  // Two products with a norm between them, as in a layer: the residual stream, and what is read of it.
  test.each([
    [64, 256, 'f16', 'assign', 1, [1, 16, 30, 49]],
    [128, 64, 'int8', 'gated', 100, [1, 4]], // rows that are much larger than at the norm before
    [128, 128, 'int4', 'assign', 0.01, [1]],
    [96, 128, 'f16', 'assign', 1, [7]], // of columns that subgroup matrices do not take
    [256, 256, 'panels', 'assign', 1, [1, 8, 30]],
    [512, 512, 'panels', 'gated', 1, [2, 16]],
  ] as const)(
    'a norm of %i columns in products of %i columns: %s, %s, rows grow by %d',
    async (width, inner, format, store, growth, rowCounts) => {
      const random = seeded(5);
      const outputs = outputsOf({ format, store });
      const eps = 1e-5;
      for (const active of rowCounts) {
        const rows = active + (active % 3);
        const { own, destroy } = scope();
        const [first, second] = [
          randomMatrix(random, formatOf(format), width, inner),
          randomMatrix(random, formatOf(format), outputs, width),
        ];
        const size = (300 * Math.sqrt(inner)) / growth; // with values up to 30
        const x = storedValues('f16', random.normals(active * inner)).map((value) => value / size);
        const before = random.normals(rows * width);
        const weight = random.normals(width);
        const tensor = <D extends Operand>(dtype: D, columns: number, data: Float32Array) => {
          const values = new Float32Array(rows * columns).fill(NaN);
          values.set(data);
          return own(uploadValues(device(), dtype, [rows, columns], values));
        };
        const y = tensor('f32', width, before);
        const result = tensor('f32', store === 'gated' ? outputs / 2 : outputs, new Float32Array());
        const most = Math.max(partialSums(device(), rows, width), 2 * 64 * 128);
        const shared = {
          batch: own(uploadBatch(device(), new Array(active).fill({}), rows)),
          partial: own(device().tensor<'f32'>('f32', [most])),
        };
        const reader = own(uploadMatrix(device(), second.host));
        expect(reader.storage).toBe(format);
        const stream = {
          ...{ batch: shared.batch, y, normed: tensor('f16', width, new Float32Array()) },
          weight: own(uploadValues(device(), 'f32', [width], weight)),
          norms: own(device().tensor<'f32'>('f32', [normSums(device(), rows, width)])),
        };
        const weights = own(uploadMatrix(device(), first.host));
        const product = { x: tensor('f32', inner, x), weights, partial: shared.partial };
        await compute(device(), (pass) => {
          const previous = normRows(pass, stream, { rows, eps });
          const normed = addAndNorm(pass, product, stream, { rows, eps, reader, before: previous });
          if (width % 64 === 0) expect(normed.parts !== undefined).toBe(rows <= 48);
          const shares = rows > 16 && width === 64 ? { variant: inSlices } : {};
          matmul(pass, { ...shared, x: normed, weights: reader, y: result }, { rows, store, ...shares });
        });
        const added = matmulReference(x, first.values, inner).map((value, i) => value + before[i]!);
        const reference = store === 'gated' ? gatedReference : matmulReference;
        const expected = reference(rmsNormReference(added, weight, eps), second.values, width);
        expectClose((await readValues(device(), y)).subarray(0, added.length), added, tolerance.f16);
        const results = await readValues(device(), result);
        expectClose(results.subarray(0, expected.length), expected, tolerance.f16);
        expect(results.subarray(expected.length).every(Number.isNaN)).toBe(true);
        destroy();
      }
    },
  );

  test('norms have room for the parts of every layout, and those of no layout for fewer outputs', () => {
    for (const { variant } of [...rows, ...matrices]) {
      const parts = variant.squareParts?.({ rows: 1, outputs: 64, columns: 256, format: 'f32' }) ?? 0;
      expect(2 * 48 + parts).toBeLessThanOrEqual(normSums(device(), 1, 64));
    }
    const layout = { outputs: 2, lanes: 32, splits: 8, subgroups: 8 } as const; // two outputs a workgroup
    expect('squareParts' in rowProduct(layout, { most: 1 })).toBe(false);
  });

  test('more rows than a tile of panels has, in several groups', async () => {
    const layout = { rowTiles: 2, panels: 1, groups: 2, splits: 2, depth: 2, sides: 1 } as const;
    const run = { capacity: 50, active: 41, columns: 256 };
    for (const rowTiles of [2, 3]) {
      const variant = panelProduct({ ...layout, rowTiles }, { most: 50 });
      await checkProduct(device(), products[4]!, [run], (pass, tensors) =>
        matmul(pass, tensors, { rows: 50, variant }),
      );
    }
    expect('squareParts' in panelProduct({ ...layout, groups: 8 }, { most: 16 })).toBe(false);
    const wide = { ...others['two rounds ahead, a subgroup a workgroup']!, columnGroups: 4 }; // 128 outputs a workgroup
    expect('squareParts' in matrixProduct(wide, { most: 16 })).toBe(false);
  });

  test('a layout that the kernel does not have is refused', () => {
    const layout = others['two rounds ahead, slices']!;
    const make = (change: Partial<ProductLayout>) => () =>
      matrixProduct({ ...layout, ...change }, { most: 16 });
    expect(make({ rowTiles: 4, columnTiles: 4 })).toThrow('up to 4 tiles');
    expect(make({ depth: 24 })).toThrow('whole pairs of tiles');
    expect(make({ splits: 2 })).toThrow('splits are added up');
  });

  test.each([products[1]!, products[4]!])(
    'matmul chooses among them by rows, columns and room: $format',
    async (product) => {
      const runs = [1, 2, 3, 16, 17, 40, 50, 100, 130].flatMap((active) =>
        [64, 104, 256].map((width) => ({ capacity: active + 1, active, columns: width })),
      );
      await checkProduct(device(), product, runs, (pass, tensors, { rows }) =>
        matmul(pass, tensors, { rows, store: product.store }),
      );
    },
  );
});
