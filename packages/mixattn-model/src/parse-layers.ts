import { jsonObject, type JsonObject } from './json-object.ts';
import { checkLayers, maxWindow, type LayerConfig } from './layer-map.ts';
import { layersFromBlockOverrides } from './llm-foundry.ts';

type Kind = LayerConfig['kind'];

const layerTypes = new Map<unknown, Kind>([
  ['full_attention', 'full'],
  ['sliding_attention', 'sliding'],
]);

/**
 * The attention of each layer as a config.json tells it, whatever the architecture (`parseConfig` takes fewer of
 * them). Where text is one part of a model, pass its `text_config`.
 *
 * | keys | meaning |
 * |---|---|
 * | `layer_types` | `full_attention` or `sliding_attention` for each layer |
 * | `sliding_window_pattern` = k (Gemma 3, Cohere 2) | layers k − 1, 2k − 1, … are full, the others slide |
 * | `use_sliding_window`, `max_window_layers` = m (Qwen 2) | layers from m on slide |
 * | `sliding_window` | positions seen, the own one included; or (ours) one for each layer, null where it is full |
 * | `num_kv_shared_layers` = n (Gemma 3n) | the last n layers read the last earlier layer of their type |
 * | `kv_source` (ours) | for each layer the owner of its KV |
 * | `attn_config`, `block_overrides` (llm-foundry MPT) | `sliding_window_size`, relative `reuse_kv_layer_idx` |
 *
 * Without any of them every layer is full and owns its KV.
 *
 * @throws InvalidModelError naming the key, or the layer and the nearest value that works
 */
export function parseLayers(json: unknown): LayerConfig[] {
  const config = jsonObject(json, 'config.json');
  const isMpt = config.raw('n_layers') !== undefined && config.raw('num_hidden_layers') === undefined;
  const depth = config.integer(isMpt ? 'n_layers' : 'num_hidden_layers', 1, 1024);
  if (isMpt || config.raw('block_overrides') !== undefined) return fromLlmFoundry(config, depth);
  const layers = fromHuggingFace(config, depth);
  const keys = huggingFaceKeys.filter((key) => config.raw(key) !== undefined);
  checkLayers(layers, `config.json (${keys.join(', ')})`);
  return layers;
}

const huggingFaceKeys = ['layer_types', 'sliding_window', 'num_kv_shared_layers', 'kv_source'];

function fromLlmFoundry(config: JsonObject, depth: number): LayerConfig[] {
  const rival = huggingFaceKeys.find((key) => config.raw(key) !== undefined);
  if (rival) config.refuse(rival, 'attn_config and block_overrides tell that already: leave it out');
  return layersFromBlockOverrides(config, depth);
}

function fromHuggingFace(config: JsonObject, depth: number): LayerConfig[] {
  const isArray = Array.isArray(config.raw('sliding_window'));
  const windows = isArray ? perLayer(config, 'sliding_window', depth) : undefined;
  const kinds = layerKinds(config, depth, windows);
  const owners = kvOwners(config, kinds);
  return kinds.map((kind, i) => {
    const window = windows ? windows[i] : sharedWindow(config, kind);
    // What a file says may be of any type: checkLayers looks.
    return { kind, ...(window != null && { window: window as number }), kvSource: owners[i] as number };
  });
}

function sharedWindow(config: JsonObject, kind: Kind): number | undefined {
  return kind === 'full' ? undefined : config.integer('sliding_window', 1, maxWindow);
}

/** The array `key`, which must have an entry for each layer. */
function perLayer(config: JsonObject, key: string, depth: number): readonly unknown[] | undefined {
  const entries = config.array(key);
  if (!entries || entries.length === depth) return entries;
  return config.refuse(key, `it has ${entries.length} entries, num_hidden_layers is ${depth}`);
}

function layerKinds(config: JsonObject, depth: number, windows: readonly unknown[] | undefined): Kind[] {
  const types = perLayer(config, 'layer_types', depth);
  if (types) {
    return types.map((type, i) => {
      const expected = `entry ${i} must be ${[...layerTypes.keys()].join(' or ')}`;
      return layerTypes.get(type) ?? config.refuse('layer_types', expected);
    });
  }
  if (windows) return windows.map((window) => (window == null ? 'full' : 'sliding'));
  const isFull = patternOf(config);
  return Array.from({ length: depth }, (_, i) => (isFull(i) ? 'full' : 'sliding'));
}

function patternOf(config: JsonObject): (layer: number) => boolean {
  for (const key of ['sliding_window_pattern', '_sliding_window_pattern']) {
    if (config.raw(key) === undefined) continue;
    const period = config.integer(key, 1, 1024);
    return (layer) => (layer + 1) % period === 0;
  }
  if (config.raw('sliding_window') === undefined) return () => true;
  if (config.raw('use_sliding_window') === undefined) {
    return config.refuse(
      'layer_types',
      'with sliding_window it must say which layers are sliding_attention or full_attention ' +
        '(or sliding_window_pattern, or use_sliding_window and max_window_layers)',
    );
  }
  if (!config.boolean('use_sliding_window', false)) return () => true;
  const fullLayers = config.integer('max_window_layers', 0, 1024);
  return (layer) => layer < fullLayers;
}

/** For each layer the owner of its KV, as the file gives it. */
function kvOwners(config: JsonObject, kinds: readonly Kind[]): readonly unknown[] {
  const depth = kinds.length;
  const sources = perLayer(config, 'kv_source', depth);
  const shared = config.integer('num_kv_shared_layers', 0, depth - 1, 0);
  if (sources && shared) {
    config.refuse('num_kv_shared_layers', 'kv_source tells the owners already, leave one of them out');
  }
  if (sources) return sources.map((source, i) => source ?? i);
  const first = depth - shared;
  return kinds.map((kind, i) => {
    if (i < first) return i;
    const owner = kinds.lastIndexOf(kind, first - 1);
    if (owner >= 0) return owner;
    const most = depth - 1 - Math.max(...kinds.map((each) => kinds.indexOf(each)));
    return config.refuse(
      'num_kv_shared_layers',
      `layer ${i} is the first ${kind} one and has none to share with: the nearest that works is ${most}`,
    );
  });
}
