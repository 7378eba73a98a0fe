import { eachTier } from '@ensample/testing';
import { test, vi } from 'vitest';
import { World } from './world.ts';

// No GPU runs these tests: a CPU driver is given a GPU's grid, in which heads come first.
vi.mock('@ensample/tensor', async (original) => ({ ...(await original()), isSoftware: () => false }));

await eachTier((device, tier) => {
  test.skipIf(tier !== 'software')("a GPU's grid, of more tasks than workgroups and of fewer", async () => {
    for (const workgroups of [2, 40]) {
      const world = new World(device(), {
        ...{ heads: 6, kvHeads: 2, headDim: 32 },
        attention: { chunk: 16, workgroups },
      });
      const prompt = world.open();
      await world.step([[prompt, 45]]);
      const samples = [45, 45, 30].map((at) => world.fork(prompt, prompt.sequence.exactFrom(at)));
      for (const rows of [1, 3]) await world.step(samples.map((sample) => [sample, rows]));
      world.destroy();
    }
  });
});
