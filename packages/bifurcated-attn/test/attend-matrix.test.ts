import type { LayerKv } from '@ensample/kv-cache';
import { onEmulatedMatrix } from '@ensample/testing';
import { expect, test } from 'vitest';
import { attentionVariant } from '../src/index.ts';
import { windowed, World, type Entry, type HeadShape } from './world.ts';

const everything: readonly LayerKv[] = [{ kind: 'full', kvSource: 0 }];

/** Head sizes of fewer tiles than subgroups, of as many, of more; windows in some, all positions in others. */
const shapes: readonly (HeadShape & { readonly layers?: readonly LayerKv[] })[] = [
  { heads: 4, kvHeads: 4, headDim: 16, layers: windowed },
  { heads: 6, kvHeads: 2, headDim: 32, layers: everything },
  { heads: 3, kvHeads: 1, headDim: 64 },
  { heads: 6, kvHeads: 1, headDim: 80, layers: windowed },
  { heads: 2, kvHeads: 2, headDim: 128, layers: everything },
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

await onEmulatedMatrix((device) => {
  test.each(shapes)('$heads query and $kvHeads key/value heads of $headDim', async (shape) => {
    const world = new World(device(), { ...shape, attention: { chunk: 64 } });
    expect(attentionVariant(world.cache)).toBe('matrix16');
    await story(world);
    world.destroy();
  });
});
