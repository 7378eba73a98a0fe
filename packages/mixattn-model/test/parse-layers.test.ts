import { InvalidModelError } from '@ensample/tensor';
import { describe, expect, it } from 'vitest';
import { formatLayerMap, type LayerConfig } from '../src/layer-map.ts';
import { layersFromReuseIndices } from '../src/llm-foundry.ts';
import { parseLayers } from '../src/parse-layers.ts';
import { attentionPreset } from '../src/presets.ts';

const map = (json: unknown) => formatLayerMap(parseLayers(json));
const windows = (layers: readonly LayerConfig[]) => [...new Set(layers.map(({ window }) => window))];

type Refused = [name: string, json: unknown, message: string];
function expectRefused(json: unknown, message: string): void {
  expect(() => parseLayers(json)).toThrow(InvalidModelError);
  expect(() => parseLayers(json)).toThrow(message);
}

describe('Hugging Face', () => {
  const s = 'sliding_attention';
  const f = 'full_attention';

  it('Llama: every layer full', () => {
    expect(map({ num_hidden_layers: 3, sliding_window: null })).toBe('0 1 2');
  });

  it('layer_types and one window', () => {
    const layers = parseLayers({ num_hidden_layers: 3, layer_types: [s, f, s], sliding_window: 512 });
    expect(formatLayerMap(layers)).toBe('0s 1 2s');
    expect(windows(layers)).toEqual([512, undefined]);
  });

  it('Gemma 3: every sixth layer full', () => {
    const gemma3 = { num_hidden_layers: 14, sliding_window: 512, sliding_window_pattern: 6 };
    const expected = '0s 1s 2s 3s 4s 5 6s 7s 8s 9s 10s 11 12s 13s';
    expect(map(gemma3)).toBe(expected);
    const { sliding_window_pattern, ...rest } = gemma3;
    expect(map({ ...rest, _sliding_window_pattern: sliding_window_pattern })).toBe(expected);
    const types = Array.from({ length: 14 }, (_, i) => (i % 6 === 5 ? f : s));
    expect(map({ ...gemma3, layer_types: types })).toBe(expected);
  });

  it('Gemma 3n: the last layers read the last own KV of their type', () => {
    const layer_types = [s, s, s, s, f, s, s, s, s, f, s, s, s, s, f];
    const gemma3n = { num_hidden_layers: 15, sliding_window: 512, layer_types };
    expect(map({ ...gemma3n, num_kv_shared_layers: 5 })).toBe('0s 1s 2s 3s 4 5s 6s 7s 8s 9 8s 8s 8s 8s 9');
    expect(map({ ...gemma3n, num_kv_shared_layers: 10 })).toBe('0s 1s 2s 3s 4 3s 3s 3s 3s 4 3s 3s 3s 3s 4');
    expect(map({ ...gemma3n, num_kv_shared_layers: 0 })).toBe(map(gemma3n));
  });

  it('Gemma 3n E4B: 35 layers, 15 shared, as llama.cpp resolves them (18 sliding, 19 full)', () => {
    const layer_types = Array.from({ length: 35 }, (_, i) => (i % 5 === 4 ? f : s));
    const layers = parseLayers({
      num_hidden_layers: 35,
      sliding_window: 512,
      layer_types,
      num_kv_shared_layers: 15,
    });
    const shared = layers.slice(20);
    expect(shared.map(({ kvSource }) => kvSource)).toEqual(
      shared.map(({ kind }) => (kind === 'full' ? 19 : 18)),
    );
    expect(layers.slice(0, 20).every(({ kvSource }, i) => kvSource === i)).toBe(true);
  });

  it('Qwen 2: layers from max_window_layers on slide, where windows are used at all', () => {
    const qwen2 = { num_hidden_layers: 4, sliding_window: 4096, max_window_layers: 3 };
    expect(map({ ...qwen2, use_sliding_window: true })).toBe('0 1 2 3s');
    expect(map({ ...qwen2, use_sliding_window: false })).toBe('0 1 2 3');
    expect(map({ ...qwen2, use_sliding_window: true, max_window_layers: 28 })).toBe('0 1 2 3');
    expect(map({ ...qwen2, use_sliding_window: true, sliding_window: null })).toBe('0 1 2 3');
  });

  it('our own keys: owners, and a window for each layer', () => {
    const own = { num_hidden_layers: 4, sliding_window: [null, 16, 32, null], kv_source: [0, null, 2, 0] };
    expect(map(own)).toBe('0 1s16 2s32 0');
    expect(map({ ...own, layer_types: [f, s, s, f] })).toBe('0 1s16 2s32 0');
  });

  const base = { num_hidden_layers: 3, sliding_window: 16, layer_types: [s, s, f] };
  it.each<Refused>([
    ['no depth', {}, 'num_hidden_layers is missing'],
    ['a text model inside another', { text_config: base }, 'num_hidden_layers is missing'],
    [
      'layers of another type',
      { ...base, layer_types: [s, 'mamba', f] },
      'entry 1 must be full_attention or',
    ],
    [
      'types that are no list',
      { ...base, layer_types: s },
      'layer_types is "sliding_attention"; expected an array',
    ],
    ['too few windows', { ...base, sliding_window: [16] }, 'sliding_window is [16]; it has 1 entries'],
    ['a window of 0', { ...base, sliding_window: 0 }, 'sliding_window is 0; expected an integer from 1'],
    [
      'a window of 0 in a list',
      { ...base, sliding_window: [16, 0, null] },
      'config.json (layer_types, sliding_window): sliding layer 1 has a window of 0: the nearest that works is 1.',
    ],
    ['a list without one', { ...base, sliding_window: [16, null, null] }, 'sliding layer 1 has no window'],
    [
      'a window of text',
      { ...base, sliding_window: ['16', 16, null] },
      'sliding layer 0 has the window "16"',
    ],
    [
      'a window of a full layer',
      { ...base, sliding_window: [16, 16, 16] },
      'full layer 2 has a window of 16',
    ],
    [
      'windows nowhere',
      { num_hidden_layers: 3, sliding_window: 16 },
      'layer_types is missing; with sliding_window',
    ],
    [
      'a pattern without a window',
      { num_hidden_layers: 3, sliding_window_pattern: 2 },
      'sliding_window is missing',
    ],
    [
      'a pattern of 0',
      { ...base, layer_types: null, sliding_window_pattern: 0 },
      'sliding_window_pattern is 0',
    ],
    [
      'Qwen 2 without its boundary',
      { num_hidden_layers: 3, sliding_window: 16, use_sliding_window: true },
      'max_window_layers is missing',
    ],
    [
      'all layers shared',
      { ...base, num_kv_shared_layers: 3 },
      'num_kv_shared_layers is 3; expected an integer from 0 to 2',
    ],
    [
      'a type with none to share',
      { ...base, num_kv_shared_layers: 2 },
      'num_kv_shared_layers is 2; layer 2 is the first full one and has none to share with: the nearest that works is 0',
    ],
    [
      'two lists of owners',
      { ...base, layer_types: [s, s, s], kv_source: [0, 0, 0], num_kv_shared_layers: 1 },
      'kv_source tells the owners already',
    ],
  ])('refuses %s', (_, json, message) => {
    expectRefused(json, message);
  });
});

describe('llm-foundry', () => {
  const sliding = { attn_config: { sliding_window_size: 1023 } };
  const slidingReuse = { attn_config: { sliding_window_size: 1023, reuse_kv_layer_idx: -1 } };
  const overrides = { sliding, slidingReuse, reuse: { attn_config: { reuse_kv_layer_idx: -6 } } };
  const run = [
    { name: 'sliding' },
    { name: 'slidingReuse' },
    { name: 'sliding' },
    { name: 'slidingReuse', repeat: 2 },
  ];
  const characterAi = {
    model_type: 'mpt',
    n_layers: 13,
    block_overrides: {
      order: [{ name: 'default' }, { order: [...run, { name: 'reuse' }], repeat: 2 }],
      overrides,
    },
  };

  it('its example, with relative indices resolved to owners, is MA', () => {
    expect(parseLayers(characterAi)).toEqual(attentionPreset('MA', { layers: 13, window: 1024 }));
  });

  it('counts the own position to the window', () => {
    expect(parseLayers({ n_layers: 2, attn_config: { sliding_window_size: 0 } })).toEqual([
      { kind: 'sliding', window: 1, kvSource: 0 },
      { kind: 'sliding', window: 1, kvSource: 1 },
    ]);
  });

  it('attn_config holds for all layers that do not override it', () => {
    const blocks = (size: number) => ({
      n_layers: 3,
      attn_config: { sliding_window_size: 7 },
      block_overrides: {
        order: [{ name: 'default' }, { name: 'other' }, { name: 'default' }],
        overrides: { other: { attn_config: { sliding_window_size: size } } },
      },
    });
    expect(map(blocks(-1))).toBe('0s 1 2s');
    expect(map(blocks(3))).toBe('0s8 1s4 2s8');
    expect(map({ n_layers: 3 })).toBe('0 1 2');
    expect(map({ n_layers: 3, attn_config: { sliding_window_size: -1 } })).toBe('0 1 2');
  });

  it('resolves chains of relative indices', () => {
    const layers = layersFromReuseIndices([
      {},
      { window: 8 },
      { window: 8, reuse: -1 },
      { window: 8, reuse: -1 },
      { reuse: -4 },
      { window: 8, reuse: -2 },
      { reuse: -2 },
    ]);
    expect(formatLayerMap(layers)).toBe('0 1s 1s 1s 0 1s 0');
  });

  it.each([
    [
      [{}, { reuse: 0 }],
      'layers: layer 1 reuses the KV at the relative index 0: it must be a negative integer',
    ],
    [[{}, { reuse: 1 }], 'relative index 1'],
    [[{}, { reuse: -0.5 }], 'relative index -0.5'],
    [
      [{}, { reuse: -2 }],
      'layer 1 reads the KV of layer -1, but there are only layers 0 to 1: the nearest that works is that of layer 0',
    ],
    [
      [{ window: 8 }, { reuse: -1 }],
      'layer 1 reads the KV of layer 0, which is sliding (window 8) while it is full',
    ],
  ])('refuses the indices of %j', (layers, message) => {
    expect(() => layersFromReuseIndices(layers)).toThrow(InvalidModelError);
    expect(() => layersFromReuseIndices(layers)).toThrow(message);
  });

  const order = (...blocks: unknown[]) => ({ n_layers: 2, block_overrides: { order: blocks, overrides } });
  const nested = (levels: number): object =>
    levels === 0 ? { name: 'default' } : { order: [nested(levels - 1)] };
  it.each<Refused>([
    ['too few layers', order({ name: 'default' }), 'it has 1 layers, the model has 2'],
    [
      'too many',
      order({ name: 'default', repeat: 2 }, { name: 'default' }),
      'it has 3 layers, the model has 2',
    ],
    [
      'a great many',
      order({ name: 'default', repeat: 1e9 }),
      'block_overrides.order[0].repeat is 1000000000',
    ],
    [
      'many times many',
      order({ order: [{ name: 'default', repeat: 2 }], repeat: 2 }),
      'block_overrides.order[0].repeat is 2; it makes 4 layers, the model has 2',
    ],
    [
      'an unknown name',
      order({ name: 'default' }, { name: 'toString' }),
      'order names "toString", which it lacks',
    ],
    [
      'a block without a name',
      order({ repeat: 2 }),
      'block_overrides.order[0].name is missing; a block has either',
    ],
    ['both name and order', order({ name: 'default', order: [] }), 'a block has either a name or an order'],
    ['no order', { n_layers: 2, block_overrides: { overrides } }, 'block_overrides.order is missing'],
    ['an order a mile deep', order(nested(5000)), 'nests its orders too deep; at most 16 fit'],
    [
      'an index before the first layer',
      order({ name: 'default' }, { name: 'reuse' }),
      'reuse_kv_layer_idx is -6; expected an integer from -2 to -1',
    ],
    [
      'windows that differ',
      order({ name: 'default' }, { name: 'slidingReuse' }),
      'config.json (block_overrides): layer 1 reads the KV of layer 0, which is full while it is sliding',
    ],
    [
      'an override of something else',
      {
        n_layers: 1,
        block_overrides: { order: [{ name: 'a' }], overrides: { a: { attn_config: { nope: true } } } },
      },
      'block_overrides.overrides.a.attn_config.nope is true; only sliding_window_size and reuse_kv_layer_idx',
    ],
    [
      'an override of another part',
      { n_layers: 1, block_overrides: { order: [{ name: 'a' }], overrides: { a: { ffn_config: {} } } } },
      'block_overrides.overrides.a.ffn_config is {}; only attn_config',
    ],
    [
      'two descriptions',
      { ...characterAi, kv_source: [0] },
      'kv_source is [0]; attn_config and block_overrides',
    ],
  ])('refuses %s', (_, json, message) => {
    expectRefused(json, message);
  });
});
