import { eachTier, expectClose, tolerance } from '@ensample/testing';
import { expect, test } from 'vitest';
import { World, type Entry, type WorldOptions } from './world.ts';

const shape = { heads: 4, kvHeads: 2, headDim: 32 } as const;

/** A page of 4 tokens in f32. */
const pageBytes = 4 * 2 * shape.kvHeads * shape.headDim * 4;

/** Random forks, cuts and steps; every step compares itself with the formula. */
async function wander(world: World, steps: number): Promise<void> {
  const { random } = world;
  const entries: Entry[] = [world.open()];
  await world.step([[entries[0]!, 25]]);
  for (let i = 0; i < steps; i++) {
    const from = entries[random.integer(entries.length)]!;
    const at = random.integer(2) ? from.sequence.length : random.integer(from.sequence.length + 1);
    if (entries.length < 6) entries.push(world.fork(from, from.sequence.exactFrom(at)));
    const cut = entries[random.integer(entries.length)]!;
    const back = Math.max(1, cut.sequence.length - random.integer(5));
    if (cut.sequence.exactFrom(back) === back) world.truncate(cut, back);
    if (random.integer(3) === 0) entries[0]!.sequence.seal();
    const chosen = entries.filter((_, e) => e === i % entries.length || random.integer(3) > 0);
    await world.step(chosen.map((entry) => [entry, 1 + random.integer(7)]));
  }
}

const variants: Readonly<Record<string, Omit<WorldOptions, keyof typeof shape>>> = {
  'one slab': {},
  'short chunks': { attention: { chunk: 8 } },
  'several slabs': { pages: 60, cache: { dtype: 'f32', slabBytes: 40 * pageBytes } },
  'each sequence for itself': { attention: { reading: 'per-sequence', chunk: 16 } },
};

await eachTier((device, tier) => {
  // With subgroups attention runs the plain tier's kernels.
  const formula = tier === 'subgroups' ? [] : Object.entries(variants);
  test.each(formula)('the formula holds on random trees, %s', async (_, options) => {
    const world = new World(device(), { ...shape, ...options });
    await wander(world, 7);
    world.destroy();
  });

  test('the formula holds while a window wraps around its ring and leaves whole chunks behind', async () => {
    const world = new World(device(), { ...shape, attention: { chunk: 8 } });
    const [a, b] = [world.open(), world.open()];
    await world.step([[a, 5]]);
    for (let i = 0; i < 9; i++) {
      await world.step([
        [a, 1 + (i % 5) * 2],
        [b, 11],
      ]);
    }
    expect(b.sequence.length).toBeGreaterThan(5 * 16);
    world.destroy();
  });

  test('fork(3) equals three caches of their own, token by token too', async () => {
    const world = new World(device(), shape);
    const prompt = world.randomRows(22);
    const steps = [1, 1, 1].map(() => [1, 2, 3].map(() => world.layers.map(() => world.randomRows(2))));
    const play = async (entries: Entry[]) => {
      const results: Float32Array[] = [];
      for (const rows of steps) {
        const given = world.layers.map((_, layer) => Float32Array.from(rows.flatMap((x) => [...x[layer]!])));
        results.push(
          ...(await world.step(
            entries.map((entry) => [entry, 2]),
            given,
          )),
        );
      }
      return Float32Array.from(results.flatMap((result) => [...result]));
    };
    const shared = world.open();
    await world.step(
      [[shared, 22]],
      world.layers.map(() => prompt),
    );
    const forked = await play([1, 2, 3].map(() => world.fork(shared)));
    const own = [1, 2, 3].map(() => world.open());
    for (const entry of own) {
      for (const [from, to] of [
        [0, 13],
        [13, 14],
        [14, 22],
      ] as const) {
        const rows = prompt.subarray(from * world.stride, to * world.stride);
        await world.step(
          [[entry, to - from]],
          world.layers.map(() => rows),
        );
      }
    }
    expectClose(await play(own), forked, tolerance[world.cache.dtype]);
    world.destroy();
  });

  test('drafts taken back leave no trace', async () => {
    const world = new World(device(), { ...shape, cache: { draftLimit: 4 } });
    const [a, b] = [world.open(), world.open()];
    const xs = [30, 3, 1].map((rows) => world.layers.map(() => world.randomRows(rows)));
    const play = async (entry: Entry, drafts: number) => {
      const results: Float32Array[][] = [];
      for (const [i, rows] of [30, 3, 1].entries()) {
        if (drafts > 0) {
          await world.step([[entry, drafts]]);
          world.truncate(entry, entry.sequence.length - drafts);
        }
        results.push(await world.step([[entry, rows]], xs[i]));
      }
      return results;
    };
    expect(await play(a, 4)).toEqual(await play(b, 0));
    world.destroy();
  });

  test('a step that is over writes nothing', async () => {
    const world = new World(device(), shape);
    const entry = world.open();
    await world.step([[entry, 9]]);
    const before = await world.memory();
    entry.sequence.reserve(3);
    world.attention.update([{ sequence: entry.sequence, rows: 3 }]);
    world.finish();
    await world.run();
    expect(await world.memory()).toEqual(before);
    world.destroy();
  });
});
