import { InvalidOptionError } from '@ensample/tensor';
import { checkLayers, maxWindow, type LayerConfig } from './layer-map.ts';

/** The layouts of MixAttention (arXiv 2409.15012) by the paper's names, and its two baselines. */
export const attentionPresets = [
  'standard',
  'sliding-only',
  'MA',
  'MA-EndSlide',
  'MA-Offset',
  'MA-Pairs',
  'MA-Offset-SlideShare',
  'MA-Pairs-SlideShare',
  'MA-Successive-1',
  'MA-Successive-2',
  'MA-Successive-3',
  'MA-Successive-4',
  'MA-NoShare-1',
  'MA-NoShare-2',
  'MA-NoShare-3',
] as const;

/** A name of {@link attentionPresets}. */
export type AttentionPreset = (typeof attentionPresets)[number];

/** Options of {@link attentionPreset}. */
export interface PresetOptions {
  /** Depth of the model, 1 to 1024. */
  readonly layers: number;
  /** Positions that a sliding layer sees, its own included; only `standard` does without. */
  readonly window?: number;
}

/** A full layer and the owner of its KV. */
type FullLayer = readonly [layer: number, owner: number];

interface Layout {
  /** Depths that work: multiples of `step`, from `least` on. */
  readonly least: number;
  readonly step: number;
  readonly full: (depth: number) => readonly FullLayer[];
  /** Within a run of sliding layers, sizes of the groups that share the KV of their first; repeated, cut at the end. */
  readonly groups: readonly number[];
}

const paperDepth = 24;
const unshared = [1];
const pairsAndTriples = [2, 3];
const wholeRun = [Infinity];

/** A full layer every six, all reading the KV of the first. */
function everySixth(first: number, depth: number): FullLayer[] {
  const count = Math.ceil((depth - first) / 6);
  return Array.from({ length: count }, (_, i) => [first + 6 * i, first]);
}

/** Four equal parts, each starting with a full layer; the second and fourth read the KV of the one before. */
function quarters(depth: number): FullLayer[] {
  const part = depth / 4;
  return [0, 1, 2, 3].map((i) => [i * part, (i - (i % 2)) * part]);
}

/**
 * Two pairs of adjacent full layers, the second of a pair reading the KV of the first. The other layers make four
 * equal parts; `before` says how many of them lie before each pair.
 */
function successive(...before: readonly [number, number]): Layout {
  const full = (depth: number) =>
    before.flatMap((parts, pair): FullLayer[] => {
      const first = (parts * (depth - 4)) / 4 + 2 * pair;
      return [
        [first, first],
        [first + 1, first],
      ];
    });
  return { least: 8, step: 4, full, groups: pairsAndTriples };
}

/** One full layer, at `layer` of 24. */
function alone(layer: number): Layout {
  const full = (depth: number): FullLayer[] => {
    const place = Math.floor((layer * depth) / paperDepth);
    return [[place, place]];
  };
  return { least: 8, step: 1, full, groups: pairsAndTriples };
}

const offset = { least: 6, step: 1, full: (depth: number) => everySixth(5, depth) };
const pairs = { least: 8, step: 4, full: quarters };

const layouts: Readonly<Record<AttentionPreset, Layout>> = {
  standard: {
    least: 1,
    step: 1,
    full: (depth) => Array.from({ length: depth }, (_, i) => [i, i]),
    groups: unshared,
  },
  'sliding-only': { least: 1, step: 1, full: () => [], groups: unshared },
  MA: {
    least: 6,
    step: 1,
    full: (depth) => [...everySixth(0, depth), [depth - 1, 0]],
    groups: pairsAndTriples,
  },
  'MA-EndSlide': { least: 6, step: 1, full: (depth) => everySixth(0, depth), groups: pairsAndTriples },
  'MA-Offset': { ...offset, groups: pairsAndTriples },
  'MA-Pairs': { ...pairs, groups: pairsAndTriples },
  'MA-Offset-SlideShare': { ...offset, groups: wholeRun },
  'MA-Pairs-SlideShare': { ...pairs, groups: wholeRun },
  'MA-Successive-1': successive(0, 2),
  'MA-Successive-2': successive(1, 2),
  'MA-Successive-3': successive(2, 3),
  'MA-Successive-4': successive(2, 4),
  'MA-NoShare-1': alone(3),
  'MA-NoShare-2': alone(10),
  'MA-NoShare-3': alone(20),
};

/**
 * The layers of a layout of MixAttention at any depth. At 24 layers it is the paper's own map. To other depths the
 * paper gives no rule; ours are:
 *
 * - MA and MA-Offset go on with their period of 6 layers, cut where the model ends (6 layers at least; MA's last
 *   layer is full);
 * - MA-Pairs has four equal parts (multiples of 4, from 8 on);
 * - MA-Successive keeps its pairs of full layers, and scales the sliding layers between them in four equal parts
 *   (multiples of 4, from 8 on);
 * - MA-NoShare keeps its full layer at the same fraction of the depth, rounded down (8 layers at least).
 *
 * Each run of sliding layers is shared in groups of 2, 3, 2, 3, …, the last one cut short: that is how MA's last run
 * of four looks in the paper, and what gives the numbers of KV caches that the paper's memory results imply. In
 * SlideShare a run is one group.
 *
 * @throws InvalidOptionError for an unknown name, a window out of range, or a depth that the layout does not scale
 * to; the message names the nearest that do.
 */
export function attentionPreset(name: AttentionPreset, options: PresetOptions): LayerConfig[] {
  const layout = Object.hasOwn(layouts, name) ? layouts[name] : undefined;
  if (!layout) {
    throw new InvalidOptionError(`no preset is called '${name}': there are ${attentionPresets.join(', ')}`);
  }
  checkDepth(name, layout, options.layers);
  const full = new Map(layout.full(options.layers));
  let run = 0;
  const layers = Array.from({ length: options.layers }, (_, i): LayerConfig => {
    const owner = full.get(i);
    if (owner === undefined) {
      return {
        kind: 'sliding',
        window: windowOf(options),
        kvSource: run + groupStart(i - run, layout.groups),
      };
    }
    run = i + 1;
    return { kind: 'full', kvSource: owner };
  });
  checkLayers(layers, name);
  return layers;
}

/** The first place of the group that `place` is in. */
function groupStart(place: number, sizes: readonly number[]): number {
  let start = 0;
  for (let i = 0; ; i += 1) {
    const end = start + (sizes[i % sizes.length] ?? Infinity);
    if (place < end) return start;
    start = end;
  }
}

function checkDepth(name: string, { least, step }: Layout, depth: number): void {
  if (!Number.isInteger(depth) || depth < 1 || depth > 1024) {
    throw new InvalidOptionError(`layers is ${depth}: it must be an integer from 1 to 1024`);
  }
  if (depth >= least && depth % step === 0) return;
  const below = depth - (depth % step);
  const nearest = below < least ? [least] : [below, below + step];
  throw new InvalidOptionError(
    `layers is ${depth}, which ${name} does not scale to: the nearest that works is ${nearest.join(' or ')}`,
  );
}

function windowOf({ window }: PresetOptions): number {
  if (window === undefined || !Number.isInteger(window) || window < 1 || window > maxWindow) {
    throw new InvalidOptionError(`window is ${window}: it must be an integer from 1 to ${maxWindow}`);
  }
  return window;
}
