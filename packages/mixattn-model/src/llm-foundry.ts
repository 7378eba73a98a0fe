import { InvalidModelError } from '@ensample/tensor';
import { jsonObject, show, type JsonObject } from './json-object.ts';
import { checkLayers, maxWindow, type LayerConfig } from './layer-map.ts';

/** One layer's attention with the owner of its KV told relatively, as llm-foundry does. */
export interface ReusingLayer {
  /** Positions seen, the own one included; absent for a full layer. */
  readonly window?: number;
  /** `reuse_kv_layer_idx`: −1 is the layer before. Absent where the layer computes its own KV. */
  readonly reuse?: number;
}

/**
 * Layers from relative indices. An index that names a layer which reuses KV itself means that layer's owner.
 *
 * @param where what error messages call the list
 * @throws InvalidModelError for an index that is not a negative integer, or as `checkLayers`
 */
export function layersFromReuseIndices(layers: readonly ReusingLayer[], where = 'layers'): LayerConfig[] {
  const resolved: LayerConfig[] = [];
  for (const [i, { window, reuse }] of layers.entries()) {
    if (reuse !== undefined && !(Number.isInteger(reuse) && reuse < 0)) {
      throw new InvalidModelError(
        `${where}: layer ${i} reuses the KV at the relative index ${show(reuse)}: it must be a negative integer, -1 is the layer before.`,
      );
    }
    const named = i + (reuse ?? 0);
    const kvSource = resolved[named]?.kvSource ?? named;
    resolved.push(window === undefined ? { kind: 'full', kvSource } : { kind: 'sliding', window, kvSource });
  }
  checkLayers(resolved, where);
  return resolved;
}

/**
 * Layers of an llm-foundry MPT config: `attn_config` for all, `block_overrides` for some. Its
 * `sliding_window_size` goes to FlashAttention, which counts only the positions before the own one; so the window
 * is one longer.
 */
export function layersFromBlockOverrides(config: JsonObject, depth: number): LayerConfig[] {
  const base = windowSize(config.object('attn_config'), -1);
  const blocks = config.object('block_overrides');
  const overridden = blocks
    ? overriddenAttention(blocks, depth)
    : Array.from({ length: depth }, () => undefined);
  const layers = overridden.map((attention): ReusingLayer => {
    const size = windowSize(attention, base);
    const reuses = attention && attention.raw('reuse_kv_layer_idx') !== undefined;
    return {
      ...(size >= 0 && { window: size + 1 }),
      ...(reuses && { reuse: attention.integer('reuse_kv_layer_idx', -depth, -1) }),
    };
  });
  return layersFromReuseIndices(layers, 'config.json (block_overrides)');
}

/** −1: no window. */
function windowSize(attention: JsonObject | undefined, fallback: number): number {
  return attention?.integer('sliding_window_size', -1, maxWindow - 1, fallback) ?? fallback;
}

/** For each layer what it overrides; `undefined` for a default one. */
function overriddenAttention(blocks: JsonObject, depth: number): (JsonObject | undefined)[] {
  const names = expandOrder(blocks, 'block_overrides', depth);
  if (names.length !== depth) blocks.refuse('order', `it has ${names.length} layers, the model has ${depth}`);
  const overrides = blocks.object('overrides');
  return names.map((name) => {
    if (name === 'default') return undefined;
    const block =
      overrides?.object(name) ?? blocks.refuse('overrides', `order names ${show(name)}, which it lacks`);
    const attention = block.object('attn_config');
    allowOnly(block, ['attn_config']);
    if (attention) allowOnly(attention, ['sliding_window_size', 'reuse_kv_layer_idx']);
    return attention;
  });
}

/** Overrides of anything else would be lost without a word. */
function allowOnly(object: JsonObject, keys: readonly string[]): void {
  const other = object.keys().find((key) => !keys.includes(key));
  if (other) object.refuse(other, `only ${keys.join(' and ')} can differ between layers`);
}

const deepest = 16;

/** The names of `order`, each as often as it repeats; at most `limit` in any part of it. */
function expandOrder(parent: JsonObject, path: string, limit: number, level = 0): string[] {
  if (level > deepest) {
    throw new InvalidModelError(`config.json: ${path} nests its orders too deep; at most ${deepest} fit.`);
  }
  const order = parent.array('order') ?? parent.refuse('order', 'expected an array of blocks');
  return order.flatMap((item, i) => {
    const place = `${path}.order[${i}]`;
    const block = jsonObject(item, 'config.json', place);
    if ((block.raw('name') === undefined) === (block.raw('order') === undefined)) {
      block.refuse('name', 'a block has either a name or an order of blocks');
    }
    const names =
      block.raw('order') === undefined ? [block.string('name')] : expandOrder(block, place, limit, level + 1);
    const repeat = block.integer('repeat', 0, limit, 1);
    if (names.length * repeat > limit) {
      block.refuse('repeat', `it makes ${names.length * repeat} layers, the model has ${limit}`);
    }
    return Array.from({ length: repeat }, () => names).flat();
  });
}
