import type { KvLayout, LayerKv } from '../src/index.ts';

/** Layers by their windows; `reuse` gives a later layer the KV of an earlier one. */
function layout(
  windows: readonly (number | undefined)[],
  reuse: Readonly<Record<number, number>> = {},
): KvLayout {
  const layers = windows.map((window, i): LayerKv => {
    const kvSource = reuse[i] ?? i;
    return window === undefined ? { kind: 'full', kvSource } : { kind: 'sliding', window, kvSource };
  });
  return { layers, kvHeads: 1, headDim: 16 };
}

/** Kinds of models, small: a page of 4 tokens has 512 bytes. */
export const layouts: Readonly<Record<string, KvLayout>> = {
  full: layout([undefined, undefined]),
  window: layout([6, 6]),
  'full and window': layout([undefined, 9, 9]),
  'two windows and reuse': layout([5, undefined, 13, 5, undefined], { 3: 0, 4: 1 }),
};
