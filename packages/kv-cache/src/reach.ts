import { firstInWindow, type LayerKv } from './layout.ts';

/** Tokens that are stored at once. */
export interface Extension {
  /** Position of the first one: keys and values of all before it are stored. */
  readonly start: number;
  /** Position after the last one. */
  readonly end: number;
  /** Positions come in chunks of so many from `start` on: each is computed as a whole. */
  readonly chunk: number;
  readonly pageTokens: number;
}

/**
 * For each layer the first position at which its input is of use, when all that counts is what later tokens read: keys and
 * values of a window's positions, or of all. A layer with a window that lies above all owners of full attention depends on the last
 * positions alone, and each owner below it on a window more; the tokens before are not computed there. `end` for a layer that is
 * of no use at all. Never falls from a layer to the next.
 *
 * What is stored afterwards may be cut back within the last page. {@link Sequence.exactFrom} knows of pages alone, which earlier segments
 * still have: of the positions between `start` and there it must not be asked, unless nothing is left out.
 */
export function neededFrom(layers: readonly LayerKv[], extension: Extension): number[] {
  const { start, end, chunk, pageTokens } = extension;
  // The first whose keys and values are read, by owner: of those later tokens read, sealed segments keep whole pages.
  const keys = layers.map((layer) => firstInWindow(end - pageTokens + 1, layer));
  const needed = new Array<number>(layers.length);
  let above = end;
  for (const [index, layer] of [...layers.entries()].reverse()) {
    const { kvSource } = layer;
    if (above < end) keys[kvSource] = Math.min(keys[kvSource] ?? end, firstInWindow(above, layer));
    const from = kvSource === index ? Math.min(above, keys[index] ?? end) : above;
    above = from < end ? start + chunk * Math.floor(Math.max(0, from - start) / chunk) : end;
    needed[index] = above;
  }
  return needed;
}
