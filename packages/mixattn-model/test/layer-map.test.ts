import { seeded, type Random } from '@ensample/testing';
import { InvalidModelError } from '@ensample/tensor';
import { describe, expect, it } from 'vitest';
import { checkLayers, formatLayerMap, parseLayerMap, type LayerConfig } from '../src/layer-map.ts';
import { parseLayers } from '../src/parse-layers.ts';

const cases = 200;

/** A sound map: each layer is of one of `kinds`, and owns its KV or reads that of an earlier owner of its kind. */
function randomMap(random: Random): LayerConfig[] {
  const windows = Array.from({ length: 1 + random.integer(3) }, (_, i) => 1 + i * 100 + random.integer(99));
  const layers: LayerConfig[] = [];
  const depth = 1 + random.integer(24);
  for (let i = 0; i < depth; i += 1) {
    const window = windows[random.integer(windows.length + 1)];
    const owners = layers.flatMap((other, j) => (other.kvSource === j && other.window === window ? [j] : []));
    const kvSource = owners[random.integer(owners.length + 1)] ?? i;
    layers.push(window === undefined ? { kind: 'full', kvSource } : { kind: 'sliding', window, kvSource });
  }
  return layers;
}

/** As our own keys of config.json have it. */
function metadata(layers: readonly LayerConfig[]): Record<string, unknown> {
  return {
    num_hidden_layers: layers.length,
    layer_types: layers.map(({ kind }) => `${kind}_attention`),
    sliding_window: layers.map(({ window }) => window ?? null),
    kv_source: layers.map(({ kvSource }) => kvSource),
  };
}

/** Ways to spoil a layer; `undefined` where this one cannot be spoilt so. */
const spoil: Readonly<Record<string, (layers: LayerConfig[], at: number) => LayerConfig | undefined>> = {
  'a later owner': (layers, at) =>
    at + 1 < layers.length ? { ...layers[at]!, kvSource: layers.length - 1 } : undefined,
  'a layer that is not there': (layers, at) => ({ ...layers[at]!, kvSource: layers.length + 3 }),
  'a negative index': (layers, at) => ({ ...layers[at]!, kvSource: -1 }),
  'a fraction': (layers, at) => ({ ...layers[at]!, kvSource: 0.5 }),
  'a chain': (layers, at) => {
    const reusing = layers.findIndex(({ kvSource }, i) => i < at && kvSource !== i);
    return reusing < 0 ? undefined : { ...layers[reusing]!, kvSource: reusing };
  },
  'an owner of another kind': (layers, at) => {
    const other = layers.findIndex(
      ({ kvSource, window }, i) => i < at && kvSource === i && window !== layers[at]!.window,
    );
    return other < 0 ? undefined : { ...layers[at]!, kvSource: other };
  },
  'a window of 0': (layers, at) => (layers[at]!.kind === 'full' ? undefined : { ...layers[at]!, window: 0 }),
  'no window': (layers, at) => ({ kind: 'sliding', kvSource: layers[at]!.kvSource }),
  'a window in a full layer': (layers, at) =>
    layers[at]!.kind === 'full' ? { ...layers[at]!, window: 4 } : undefined,
};

describe('free-form maps', () => {
  it('come back from text and from config.json as they were', () => {
    const random = seeded(1);
    for (let i = 0; i < cases; i += 1) {
      const layers = randomMap(random);
      const window = layers.find((layer) => layer.window !== undefined)?.window;
      expect(parseLayerMap(formatLayerMap(layers), window === undefined ? {} : { window })).toEqual(layers);
      expect(parseLayers(metadata(layers))).toEqual(layers);
    }
  });

  it.each(Object.entries(spoil))('are refused with %s, naming the layer', (_, change) => {
    const random = seeded(2);
    let spoilt = 0;
    for (let i = 0; i < cases; i += 1) {
      const layers = randomMap(random);
      const at = random.integer(layers.length);
      const changed = change(layers, at);
      if (!changed) continue;
      layers[at] = changed;
      expect(() => checkLayers(layers)).toThrow(InvalidModelError);
      expect(() => checkLayers(layers)).toThrow(new RegExp(`^layers: (sliding |full )?layer ${at} `));
      spoilt += 1;
    }
    expect(spoilt).toBeGreaterThan(10);
  });

  it('name an owner that works', () => {
    const random = seeded(3);
    for (let i = 0; i < cases; i += 1) {
      const layers = randomMap(random);
      const at = random.integer(layers.length);
      layers[at] = { ...layers[at]!, kvSource: random.integer(layers.length + 4) - 2 };
      for (let left = layers.length; left >= 0; left -= 1) {
        const advice = refusal(layers);
        if (!advice) break;
        layers[advice.layer] = { ...layers[advice.layer]!, kvSource: advice.nearest };
      }
      expect(refusal(layers)).toBeUndefined();
    }
  });
});

function refusal(layers: readonly LayerConfig[]): { layer: number; nearest: number } | undefined {
  try {
    checkLayers(layers);
    return undefined;
  } catch (error) {
    const { message } = error as Error;
    const found = /layer (\d+) reads .* the nearest that works is (?:its own \(|that of layer )(\d+)/.exec(
      message,
    );
    if (!found) throw error;
    return { layer: Number(found[1]), nearest: Number(found[2]) };
  }
}

describe('checkLayers', () => {
  const full = (kvSource: number): LayerConfig => ({ kind: 'full', kvSource });
  const sliding = (window: number, kvSource: number): LayerConfig => ({ kind: 'sliding', window, kvSource });
  it.each<[string, LayerConfig[], string]>([
    ['no layers', [], 'map: there are none, a model has at least one.'],
    [
      'a cycle',
      [full(0), full(2), full(1)],
      'map: layer 1 reads the KV of layer 2, which leads back to it: the nearest that works is its own (1).',
    ],
    [
      'a longer cycle',
      [full(1), full(2), full(0)],
      'layer 0 reads the KV of layer 1, which leads back to it: the nearest that works is its own (0)',
    ],
    [
      'a forward map',
      [full(0), full(2), full(2)],
      'layer 1 reads the KV of layer 2, which comes later: the nearest that works is its own (1)',
    ],
    [
      'a chain',
      [full(0), full(1), full(0), full(3), full(2)],
      'layer 4 reads the KV of layer 2, which itself reads that of layer 0: the nearest that works is that of layer 0',
    ],
    [
      'another kind',
      [full(0), sliding(8, 1), full(1)],
      'layer 2 reads the KV of layer 1, which is sliding (window 8) while it is full: the nearest that works is that of layer 0',
    ],
    [
      'another window',
      [sliding(8, 0), sliding(9, 0)],
      'layer 1 reads the KV of layer 0, which is sliding (window 8) while it is sliding (window 9): the nearest that works is its own (1)',
    ],
    [
      'a layer that is not there',
      [full(7)],
      'layer 0 reads the KV of layer 7, but there are only layers 0 to 0',
    ],
    ['a window of 0', [sliding(0, 0)], 'sliding layer 0 has a window of 0: the nearest that works is 1'],
    [
      'half a position',
      [sliding(7.6, 0)],
      'sliding layer 0 has a window of 7.6: the nearest that works is 8',
    ],
    ['a window past all', [sliding(1e9, 0)], 'a window of 1000000000: the nearest that works is 16777216'],
    [
      'a window of text',
      [sliding('8' as unknown as number, 0)],
      'the window "8": it must be an integer from 1',
    ],
    ['another kind of layer', [{ kind: 'conv' as 'full', kvSource: 0 }], 'layer 0 is of kind "conv"'],
    [
      'too many windows',
      [full(0), ...[2, 3, 4, 5].map((window, i) => sliding(window, i + 1))],
      'layer 4 has a window of 5, but full, 2, 3, 4 come before it and at most 4 different ones are supported',
    ],
  ])('refuses %s', (_, layers, message) => {
    expect(() => checkLayers(layers, 'map')).toThrow(InvalidModelError);
    expect(() => checkLayers(layers, 'map')).toThrow(message);
  });
});

describe('parseLayerMap', () => {
  it('reads owners, s and windows', () => {
    expect(parseLayerMap(' 0  1s\n1s 0 4s512', { window: 256 })).toEqual([
      { kind: 'full', kvSource: 0 },
      { kind: 'sliding', window: 256, kvSource: 1 },
      { kind: 'sliding', window: 256, kvSource: 1 },
      { kind: 'full', kvSource: 0 },
      { kind: 'sliding', window: 512, kvSource: 4 },
    ]);
  });

  it.each([
    ['0 x', 'layer map: entry 1 is "x"; expected the layer that owns the KV'],
    ['0 -1', 'entry 1 is "-1"'],
    ['0 1S', 'entry 1 is "1S"'],
    ['0 512', 'layer map: layer 1 reads the KV of layer 512'],
    ['0 1s', 'layer map: sliding layer 1 has no window: it must be'],
    ['', 'layer map: there are none'],
  ])('refuses %j', (text, message) => {
    expect(() => parseLayerMap(text)).toThrow(InvalidModelError);
    expect(() => parseLayerMap(text)).toThrow(message);
  });
});
