import { InvalidModelError } from '@ensample/tensor';

/** Attention of one layer: all positions or a sliding window, and the layer whose keys and values it reads. */
export interface LayerKv {
  readonly kind: 'full' | 'sliding';
  /** Sliding layers see positions p − window + 1 … p. */
  readonly window?: number;
  /** Index of the layer that owns the KV; its own index for an owner. */
  readonly kvSource: number;
}

/** What a cache must hold for a model: the KV-sharing map of MixAttention (arXiv 2409.15012) as data. */
export interface KvLayout {
  readonly layers: readonly LayerKv[];
  /** Key/value heads of a layer. */
  readonly kvHeads: number;
  readonly headDim: number;
}

/** Owners that keep the same positions (all, or one window) and so share page tables. */
export interface KvKind {
  readonly index: number;
  /** Undefined: every position is kept. */
  readonly window: number | undefined;
  /** Layer indices, ascending. */
  readonly owners: readonly number[];
}

/** Where a layer finds its KV: the kind, and the owner's place in that kind. */
export interface LayerPlace {
  readonly kind: number;
  readonly owner: number;
  readonly owns: boolean;
}

/** A step's plan has room for this many kinds. */
export const maxKinds = 4;

/** The first position that a token at `position` sees. */
export function firstInWindow(
  position: number,
  { window = Infinity }: { readonly window?: number | undefined },
): number {
  return Math.max(0, position - window + 1);
}

/**
 * Groups the owners of a layout by window, in order of first appearance.
 * @throws InvalidModelError for a sliding layer without a window, or too many different windows.
 */
export function kindsOf(layout: KvLayout): KvKind[] {
  const owners = layout.layers.flatMap((layer, i) =>
    layer.kvSource === i ? [{ window: windowOf(layer, i), i }] : [],
  );
  const windows = [...new Set(owners.map(({ window }) => window))];
  if (windows.length > maxKinds) {
    throw new InvalidModelError(
      `the layers have ${windows.length} different windows (${windows.join(', ')}): at most ${maxKinds} are supported`,
    );
  }
  return windows.map((window, index) => ({
    index,
    window,
    owners: owners.filter((owner) => owner.window === window).map(({ i }) => i),
  }));
}

function windowOf({ kind, window }: LayerKv, index: number): number | undefined {
  if (kind === 'full') return undefined;
  if (window === undefined || !Number.isInteger(window) || window < 1) {
    throw new InvalidModelError(
      `sliding layer ${index} has a window of ${window}: it must be an integer from 1 on`,
    );
  }
  return window;
}

/**
 * For each layer, the kind and owner it reads.
 * @throws InvalidModelError when a layer reads from one that owns no KV, or keeps other positions.
 */
export function placesOf(layout: KvLayout, kinds: readonly KvKind[]): LayerPlace[] {
  return layout.layers.map((layer, index) => {
    const { kvSource } = layer;
    const kind = kinds.find((candidate) => candidate.owners.includes(kvSource));
    if (!kind) {
      throw new InvalidModelError(`layer ${index} reads the KV of layer ${kvSource}, which owns none`);
    }
    const window = windowOf(layer, index);
    if (window !== kind.window) {
      throw new InvalidModelError(
        `layer ${index} (window ${window ?? 'none'}) reads the KV of layer ${kvSource} ` +
          `(window ${kind.window ?? 'none'}): the windows must be the same`,
      );
    }
    return { kind: kind.index, owner: kind.owners.indexOf(kvSource), owns: kvSource === index };
  });
}
