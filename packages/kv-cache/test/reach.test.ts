import { seeded, type Random } from '@ensample/testing';
import { describe, expect, test } from 'vitest';
import { neededFrom, type LayerKv } from '../src/index.ts';

const full = (kvSource: number): LayerKv => ({ kind: 'full', kvSource });
const sliding = (kvSource: number, window: number): LayerKv => ({ kind: 'sliding', window, kvSource });

/** Any layers: owners, and layers that reuse the KV of one before that sees the same. */
function randomLayers(random: Random): LayerKv[] {
  const layers: LayerKv[] = [];
  for (let index = 0; index < 1 + random.integer(9); index++) {
    const owners = layers.filter(({ kvSource }, i) => kvSource === i);
    const reused = owners[random.integer(2 * owners.length + 1)];
    const window = [undefined, 3, 8][random.integer(3)];
    layers.push(reused ?? (window === undefined ? full(index) : sliding(index, window)));
  }
  return layers;
}

/** The same by following every token of every layer to what it reads. */
function byTokens(layers: readonly LayerKv[], start: number, end: number): number[] {
  const inputs = layers.map(() => new Set<number>());
  const first = (position: number, { window }: LayerKv) =>
    window === undefined ? 0 : Math.max(0, position - window + 1);
  const input = (index: number, position: number): void => {
    if (position < start || inputs[index]?.has(position)) return;
    inputs[index]?.add(position);
    if (index > 0) output(index - 1, position);
  };
  const output = (index: number, position: number): void => {
    const layer = layers[index];
    if (!layer) return;
    input(index, position);
    for (let key = first(position, layer); key <= position; key++) input(layer.kvSource, key);
  };
  layers.forEach((layer, index) => {
    if (layer.kvSource !== index) return;
    for (let position = first(end, layer); position < end; position++) input(index, position);
  });
  return inputs.map((positions) => Math.min(end, ...positions));
}

function randomCase(random: Random, most: number) {
  const layers = randomLayers(random);
  const start = random.integer(20);
  return { layers, start, end: start + 1 + random.integer(most) };
}

test('is what following every token finds', () => {
  const random = seeded(3);
  for (let i = 0; i < 300; i++) {
    const { layers, start, end } = randomCase(random, 60);
    const found = neededFrom(layers, { start, end, chunk: 1, pageTokens: 1 });
    expect(found, JSON.stringify({ layers, start, end })).toEqual(byTokens(layers, start, end));
  }
});

test('chunks and pages make it no more than earlier, and chunks stay whole', () => {
  const random = seeded(4);
  for (let i = 0; i < 300; i++) {
    const { layers, start, end } = randomCase(random, 100);
    const extension = { start, end, chunk: 1 + random.integer(16), pageTokens: 4 };
    const exact = byTokens(layers, start, end);
    const found = neededFrom(layers, extension);
    found.forEach((from, index) => {
      expect(from).toBeLessThanOrEqual(exact[index]!);
      expect(from).toBeGreaterThanOrEqual(found[index - 1] ?? 0);
      if (from < end) expect((from - start) % extension.chunk).toBe(0);
    });
  }
});

describe('a prompt of 31000 tokens', () => {
  const prompt = { start: 0, end: 31000, chunk: 1, pageTokens: 1 };

  test('is needed in all of a standard model', () => {
    expect(neededFrom([full(0), full(1), full(2)], prompt)).toEqual([0, 0, 0]);
  });

  test('MA-Offset needs a window more for each owner below, and all below the last full one', () => {
    const layers = [sliding(0, 1024), full(1), sliding(2, 1024), sliding(2, 1024), sliding(4, 1024), full(1)];
    const end = 31000 - 1023;
    expect(neededFrom(layers, prompt)).toEqual([0, 0, end - 1023, end, end, 31000]);
  });

  test('a model of windows alone does not see the beginning', () => {
    const layers = [sliding(0, 1024), sliding(1, 1024)];
    expect(neededFrom(layers, prompt)).toEqual([31000 - 2 * 1023, 31000 - 1023]);
  });
});
