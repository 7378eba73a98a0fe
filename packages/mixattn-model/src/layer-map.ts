import { maxKinds } from '@ensample/kv-cache';
import { InvalidModelError } from '@ensample/tensor';
import { show } from './json-object.ts';

/** One layer's attention. */
export interface LayerConfig {
  /** `full`: a position sees all before it and itself; `sliding`: only the last `window` of them. */
  kind: 'full' | 'sliding';
  /** Positions seen, the own one included; present where `kind` is `sliding`. */
  window?: number;
  /** The layer whose K and V this one attends over; its own index where it computes them itself. */
  kvSource: number;
}

/** The longest window of a layer, in positions. */
export const maxWindow: number = 2 ** 24;

/**
 * Refuses a map of layers that cannot be run. In one that can, every window is an integer from 1 on, and `kvSource`
 * names the layer itself or an earlier one that owns its KV and sees the same positions.
 *
 * @param where what the message calls the map, e.g. `config.json`
 * @throws InvalidModelError naming the layer, the value and the nearest one that works
 */
export function checkLayers(layers: readonly LayerConfig[], where = 'layers'): void {
  const problem =
    (layers.length === 0 ? 'there are none, a model has at least one' : undefined) ??
    firstOf(layers, windowProblem) ??
    firstOf(layers, (layer, index) => ownerProblem(layer, index, layers)) ??
    kindsProblem(layers);
  if (problem) throw new InvalidModelError(`${where}: ${problem}.`);
}

const kinds: readonly LayerConfig['kind'][] = ['full', 'sliding'];

type Problem = string | undefined;

function firstOf(layers: readonly LayerConfig[], problemOf: (layer: LayerConfig, index: number) => Problem) {
  for (const [index, layer] of layers.entries()) {
    const problem = problemOf(layer, index);
    if (problem) return problem;
  }
  return undefined;
}

function windowProblem({ kind, window }: LayerConfig, index: number): Problem {
  if (!kinds.includes(kind)) return `layer ${index} is of kind ${show(kind)}: it must be full or sliding`;
  if (kind === 'full') {
    return window === undefined
      ? undefined
      : `full layer ${index} has a window of ${show(window)}: leave it out, or make the layer sliding`;
  }
  if (typeof window !== 'number' || Number.isNaN(window)) {
    const found = window === undefined ? 'no window' : `the window ${show(window)}`;
    return `sliding layer ${index} has ${found}: it must be an integer from 1 to ${maxWindow}`;
  }
  const nearest = Math.min(Math.max(Math.round(window), 1), maxWindow);
  return window === nearest
    ? undefined
    : `sliding layer ${index} has a window of ${window}: the nearest that works is ${nearest}`;
}

/** Layers before `index` are known to be sound. */
function ownerProblem(layer: LayerConfig, index: number, layers: readonly LayerConfig[]): Problem {
  const reason = layer.kvSource === index ? undefined : reasonAgainst(layer, index, layers);
  if (!reason) return undefined;
  const nearest = nearestOwner(layer, index, layers);
  return (
    `layer ${index} reads the KV of layer ${show(layer.kvSource)}, ${reason}: ` +
    `the nearest that works is ${nearest === index ? `its own (${index})` : `that of layer ${nearest}`}`
  );
}

function reasonAgainst(layer: LayerConfig, index: number, layers: readonly LayerConfig[]): Problem {
  const { kvSource } = layer;
  const owner = Number.isInteger(kvSource) ? layers[kvSource] : undefined;
  if (!owner) return `but there are only layers 0 to ${layers.length - 1}`;
  if (kvSource > index)
    return leadsTo(layers, kvSource, index) ? 'which leads back to it' : 'which comes later';
  if (owner.kvSource !== kvSource) return `which itself reads that of layer ${owner.kvSource}`;
  if (!seeTheSame(owner, layer)) return `which is ${describe(owner)} while it is ${describe(layer)}`;
  return undefined;
}

function leadsTo(layers: readonly LayerConfig[], from: number, to: number): boolean {
  let at: number | undefined = from;
  for (let steps = 0; steps < layers.length && at !== undefined; steps += 1) {
    if (at === to) return true;
    at = layers[at]?.kvSource;
  }
  return false;
}

/** Where the named layer is reading from, if that fits; else the fitting owner nearest to the named one. */
function nearestOwner(layer: LayerConfig, index: number, layers: readonly LayerConfig[]): number {
  const { kvSource } = layer;
  const owners = layers
    .slice(0, index)
    .flatMap((other, i) => (other.kvSource === i && seeTheSame(other, layer) ? [i] : []));
  const end = kvSource < index ? layers[kvSource]?.kvSource : undefined;
  if (end !== undefined && owners.includes(end)) return end;
  const distance = (i: number) => Math.abs(i - kvSource);
  return [...owners, index].reduce((best, i) => (distance(i) < distance(best) ? i : best));
}

function seeTheSame(a: LayerConfig, b: LayerConfig): boolean {
  return a.kind === b.kind && a.window === b.window;
}

function describe({ kind, window }: LayerConfig): string {
  return kind === 'full' ? 'full' : `sliding (window ${window})`;
}

function kindsProblem(layers: readonly LayerConfig[]): Problem {
  const windows = [...new Set(layers.map(({ window }) => window))];
  if (windows.length <= maxKinds) return undefined;
  const index = layers.findIndex(({ window }) => window === windows[maxKinds]);
  const others = windows.slice(0, maxKinds).map((window) => window ?? 'full');
  return (
    `layer ${index} has a window of ${windows[maxKinds] ?? 'full'}, but ${others.join(', ')} come before it and ` +
    `at most ${maxKinds} different ones are supported: use one of those`
  );
}

const notation = /^(\d{1,4})(?:(s)(\d{1,8})?)?$/;

/**
 * Reads a map in the notation of MixAttention's figures: for each layer the owner of its KV, with `s` where it sees
 * a sliding window. `0 1s 1s 0`: layer 3 is full and reads the KV of layer 0. A window of a layer's own follows the
 * `s` (ours, not the paper's): `0 1s256 2s512`.
 *
 * @param options.window positions seen by the layers with a bare `s`
 * @throws InvalidModelError naming the entry, or as {@link checkLayers}
 */
export function parseLayerMap(text: string, options: { readonly window?: number } = {}): LayerConfig[] {
  const layers = text
    .split(/\s+/)
    .filter(Boolean)
    .map((word, i): LayerConfig => {
      const [, kvSource, sliding, own] = notation.exec(word) ?? [];
      if (kvSource === undefined) {
        throw new InvalidModelError(
          `layer map: entry ${i} is ${show(word)}; expected the layer that owns the KV, and s where it slides, as in 0, 1s or 1s256.`,
        );
      }
      if (!sliding) return { kind: 'full', kvSource: Number(kvSource) };
      const window = own === undefined ? options.window : Number(own);
      return { kind: 'sliding', kvSource: Number(kvSource), ...(window !== undefined && { window }) };
    });
  checkLayers(layers, 'layer map');
  return layers;
}

/** The map in the notation of {@link parseLayerMap}; windows are left out where all sliding layers have the same. */
export function formatLayerMap(layers: readonly LayerConfig[]): string {
  const windows = new Set(layers.flatMap(({ window }) => window ?? []));
  const sliding = (window: number | undefined) => (windows.size > 1 ? `s${window}` : 's');
  return layers
    .map(({ kind, window, kvSource }) => `${kvSource}${kind === 'full' ? '' : sliding(window)}`)
    .join(' ');
}
