import { tiers } from '@ensample/tensor';
import { eachTier } from '@ensample/testing';
import { test } from 'vitest';
import { windowed, World, type Entry, type HeadShape } from './world.ts';

const shapes: readonly HeadShape[] = [
  { heads: 4, kvHeads: 4, headDim: 32 },
  { heads: 6, kvHeads: 2, headDim: 64 },
  { heads: 3, kvHeads: 1, headDim: 80 },
  { heads: 2, kvHeads: 1, headDim: 96 },
  { heads: 2, kvHeads: 2, headDim: 128 },
  { heads: 4, kvHeads: 1, headDim: 256 },
];

/** Prefill in chunks, forks at the end and in the middle, then steps of one and of several tokens. */
async function story(world: World): Promise<void> {
  const prompt = world.open();
  await world.step([[prompt, 17]]);
  await world.step([[prompt, 30]]);
  const samples = [47, 47, 33].map((at) => world.fork(prompt, at));
  const other = world.open();
  await world.step([...samples.map((sample): [Entry, number] => [sample, 1]), [other, 7]]);
  await world.step(samples.map((sample, i) => [sample, 5 - i]));
}

await eachTier((device, tier) => {
  // With subgroups attention runs the plain tier's kernels; f16 differs in how it loads keys and values alone.
  const own = { subgroups: shapes.slice(0, 1), f16: shapes.filter((_, i) => i % 2 === 1) };
  test.each(tier in own ? own[tier as keyof typeof own] : shapes)(
    '$heads query and $kvHeads key/value heads of $headDim',
    async (shape) => {
      const world = new World(device(), { ...shape, layers: windowed });
      await story(world);
      world.destroy();
    },
  );

  test.runIf(tiers[tier].features.includes('shader-f16'))('results in f16', async () => {
    const world = new World(device(), { ...shapes[1]!, layers: windowed, results: 'f16' });
    await story(world);
    world.destroy();
  });
});
