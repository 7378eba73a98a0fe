import { InvalidOptionError } from '@ensample/tensor';
import { attempt, type Bench } from '../bench.ts';

/** Values that each part of a layout may have, in order. */
export type Choices<T> = { readonly [K in keyof T]: readonly T[K][] };

/** What a climb found. */
export interface Found<T> {
  readonly layout: T;
  readonly cost: number;
}

/**
 * Goes from layout to layout, each time to the cheapest of those that differ in one part by one step, until none is cheaper.
 * Every layout is measured once.
 * @param measure its cost; Infinity for a layout that cannot be
 */
export async function climb<T extends object>(
  start: T,
  choices: Choices<T>,
  measure: (layout: T) => Promise<number>,
): Promise<Found<T>> {
  const known = new Map<string, Promise<number>>();
  const cost = (layout: T) => {
    const name = JSON.stringify(layout);
    const measured = known.get(name) ?? measure(layout);
    known.set(name, measured);
    return measured;
  };
  let best: Found<T> = { layout: start, cost: await cost(start) };
  for (;;) {
    const before = best;
    for (const layout of neighbours(before.layout, choices)) {
      const found = { layout, cost: await cost(layout) };
      if (found.cost < best.cost) best = found;
    }
    if (best === before) return best;
  }
}

/** Where a search begins and where it may go, and the µs of what is chosen without it, if there is such. */
export interface Search<T> {
  readonly start: T;
  readonly choices: Choices<T>;
  readonly now?: number;
}

/**
 * Looks for the fastest layout, and says how it compares.
 * @param time µs; undefined for a layout that cannot be. What it throws is reported, and the search goes on.
 */
export async function search<T extends object>(
  bench: Bench,
  { start, choices, now }: Search<T>,
  time: (layout: T) => Promise<number | undefined>,
): Promise<void> {
  const { layout, cost } = await climb(start, choices, async (one) => {
    let us: number | undefined;
    await attempt(bench, nameOf(one), async () => {
      us = await time(one);
    });
    return us ?? Infinity;
  });
  const before = now === undefined ? '' : `; now ${now.toFixed(1)}`;
  bench.report.log(`best: ${nameOf(layout)}, ${cost.toFixed(1)} µs${before}`);
}

function neighbours<T extends object>(layout: T, choices: Choices<T>): T[] {
  return (Object.keys(choices) as (keyof T)[]).flatMap((part) => {
    const at = choices[part].indexOf(layout[part]);
    return [at - 1, at + 1].flatMap((next): T[] => {
      const value = choices[part][next];
      return value === undefined ? [] : [{ ...layout, [part]: value }];
    });
  });
}

/** A layout in words. */
export function nameOf(layout: object): string {
  return Object.entries(layout)
    .map(([part, value]) => `${part} ${String(value)}`)
    .join(' ');
}

/** @throws InvalidOptionError on a tier that has no layouts to choose from */
export function expectMatrixTier({ device: { tier } }: Bench): void {
  if (tier.matmul !== 'matrix')
    throw new InvalidOptionError(`tier ${tier.name} has no layouts: only those of tier matrix can be tuned`);
}
