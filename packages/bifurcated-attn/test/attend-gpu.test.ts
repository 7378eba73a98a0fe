import type { KvCache, LayerKv } from '@ensample/kv-cache';
import type { Device } from '@ensample/tensor';
import { onEmulated } from '@ensample/testing';
import { expect, test } from 'vitest';
import { attentionVariant, matrixVariant, type MatrixLayout } from '../src/index.ts';
import { windowed, World, type Entry, type HeadShape, type WorldOptions } from './world.ts';

const everything: readonly LayerKv[] = [{ kind: 'full', kvSource: 0 }];

/** Head sizes of fewer tiles than subgroups, of as many, of more; windows in some, all positions in others; pages of less and of more than a round. */
const shapes: readonly Pick<WorldOptions, keyof HeadShape | 'layers' | 'cache'>[] = [
  { heads: 4, kvHeads: 4, headDim: 16, layers: windowed },
  { heads: 6, kvHeads: 2, headDim: 32, layers: everything },
  { heads: 3, kvHeads: 1, headDim: 64 },
  { heads: 6, kvHeads: 1, headDim: 80, layers: windowed },
  { heads: 2, kvHeads: 2, headDim: 128, layers: everything, cache: { pageTokens: 64 } },
];

/**
 * A prompt of several parts and rounds, the last of them cut short; forks at its end and in the middle; then samples of
 * different lengths, in steps of single tokens and of several rows, as drafts are verified.
 */
async function story(world: World): Promise<void> {
  const prompt = world.open();
  for (const rows of [40, 45, 46]) await world.step([[prompt, rows]]);
  const samples = [131, 131, 77].map((at) => world.fork(prompt, prompt.sequence.exactFrom(at)));
  const other = world.open();
  await world.step([...samples.map((sample): [Entry, number] => [sample, 1]), [other, 7]]);
  await world.step(samples.map((sample, i) => [sample, 5 - i]));
  await world.step(samples.map((sample, i) => [sample, i === 0 ? 33 : 1]));
  await world.step(samples.map((sample) => [sample, 1]));
}

/** Steps recorded for few rows, for which there are kernels of their own: one that grows token by token, and forks of it. */
async function shortStory(device: Device, shape: HeadShape, rows: number): Promise<void> {
  const world = new World(device, { ...shape, rows, attention: { chunk: 16 } });
  expect(attentionVariant(world.cache, rows * (shape.heads / shape.kvHeads))).toMatch(/^few[24]$/);
  const entry = world.open();
  for (let i = 0; i < 9; i++) await world.step([[entry, rows]]);
  const samples = Array.from({ length: rows }, () => world.fork(entry));
  for (let i = 0; i < 3; i++) await world.step(samples.map((sample) => [sample, 1]));
  world.destroy();
}

/** Scores that grow: what was added up before is scaled down. Integers, so that large scores are exact in f16 as well. */
async function growingStory(world: World): Promise<void> {
  const entry = world.open();
  const step = (rows: number, scale: number) =>
    world.step(
      [[entry, rows]],
      world.layers.map(() => world.randomRows(rows).map((value) => Math.round(scale * value))),
    );
  for (const scale of [1, 2, 3]) await step(40, scale);
  for (const scale of [3, 4, 2]) await step(1, scale);
  world.destroy();
}

const shortStories: readonly (readonly [HeadShape, number])[] = [
  [{ heads: 2, kvHeads: 2, headDim: 64 }, 4],
  [{ heads: 2, kvHeads: 1, headDim: 80 }, 1],
];

// Of a GPU without subgroup matrices what is its own: tasks of few vectors, beside tiles.
await onEmulated('f16', (device) => {
  test.each(shortStories.slice(0, 1))('%o, %i rows', (shape, rows) => shortStory(device(), shape, rows));

  test.each(shapes.filter(({ headDim }) => headDim >= 64))(
    '$heads query and $kvHeads key/value heads of $headDim',
    async (shape) => {
      const world = new World(device(), { ...shape, attention: { chunk: 64 } });
      expect(attentionVariant(world.cache, 48)).toBe(shape.headDim === 80 ? 'tile16' : 'team16');
      await story(world);
      world.destroy();
    },
  );

  test('scores that grow', () => growingStory(new World(device(), { heads: 3, kvHeads: 1, headDim: 64 })));
});

/** Layouts of smaller tiles: of two subgroups that share 16 vectors, for one of which 80 columns are uneven, and of one each. */
const layouts: Readonly<Record<number, MatrixLayout>> = {
  32: { vectors: 32, shares: 1, keys: 16, tasks: 512 },
  80: { vectors: 16, shares: 2, keys: 16, tasks: 512 },
  128: { vectors: 32, shares: 2, keys: 16, tasks: 512 },
};

await onEmulated('matrix', (device) => {
  test.each(shortStories)('%o, %i rows', (shape, rows) => shortStory(device(), shape, rows));

  test.each(shapes)('$heads query and $kvHeads key/value heads of $headDim', async (shape) => {
    const layout = layouts[shape.headDim];
    const variant = (cache: KvCache) => matrixVariant(cache, layout && [layout]);
    const world = new World(device(), { ...shape, variant, attention: { chunk: 64 } });
    expect(attentionVariant(world.cache, 48)).toBe('matrix64');
    await story(world);
    world.destroy();
  });

  // A part that begins beyond the rows' own positions, in the middle of a round of the teams: it has no keys yet.
  test('parts of 16 and 32 keys, room reserved ahead', async () => {
    for (const [chunk, headDim] of [
      [16, 128],
      [32, 64],
    ] as const) {
      const world = new World(device(), {
        heads: 1,
        kvHeads: 1,
        headDim,
        layers: everything,
        attention: { chunk },
      });
      const entry = world.open();
      entry.sequence.reserve(80);
      for (const rows of [4, 1, chunk - 6, 1, 1, 1, 1, chunk]) await world.step([[entry, rows]]);
      world.destroy();
    }
  });

  test('scores that grow', async () => {
    const variant = (cache: KvCache) =>
      matrixVariant(cache, [{ vectors: 16, shares: 2, keys: 32, tasks: 512 }]);
    await growingStory(new World(device(), { heads: 3, kvHeads: 1, headDim: 64, variant }));
  });
});
