import type { PagePool } from './pool.ts';

/** The pages of a segment in one kind: pages `first` … `first + ids.length − 1`, counted from the segment's start. */
export interface PageRun {
  /** All of a segment's pages of a kind lie in one slab. */
  slab: number;
  first: number;
  ids: number[];
}

/**
 * A run of tokens whose KV is stored once. A sequence is a path from a root to a leaf; all sequences below
 * a segment read the same pages.
 */
export interface Segment {
  readonly parent: Segment | undefined;
  /** Position of the first token. */
  readonly start: number;
  /** Tokens stored (as far as the host knows). */
  length: number;
  /** Position up to which pages are there to be written. */
  reservedEnd: number;
  /** One per kind. */
  readonly runs: PageRun[];
  /** Sequences that end here, and child segments. */
  users: number;
}

/** First position of a segment that is still stored in a kind. */
export function oldest(segment: Segment, run: PageRun, pageTokens: number): number {
  return segment.start + run.first * pageTokens;
}

/**
 * Makes the pages for positions up to `end` of a run. In a windowed kind, pages that lie wholly below
 * `lowest` move to the front: with a constant number of pages, page k + n is where page k was, which is
 * how the kernels address them, so that a ring needs no new table.
 * @returns whether the page table changed.
 */
export function extendRun(pool: PagePool, run: PageRun, end: number, lowest: number): boolean {
  const { tokens } = pool.shape;
  const last = Math.ceil(end / tokens) - 1;
  let changed = false;
  while (run.first + run.ids.length <= last) {
    const oldestPage = run.ids[0];
    if (oldestPage !== undefined && (run.first + 1) * tokens <= lowest) {
      run.ids.push(oldestPage);
      run.ids.shift();
      run.first++;
    } else {
      run.ids.push(pool.take(run.slab));
      changed = true;
    }
  }
  return changed;
}

/** Gives back pages that lie wholly below `lowest` or wholly at or above `end` (relative to the segment's start). */
export function trimRun(pool: PagePool, run: PageRun, lowest: number, end: number): void {
  const { tokens } = pool.shape;
  while (run.ids.length > 0 && (run.first + 1) * tokens <= lowest) {
    pool.give(run.slab, run.ids.shift() ?? 0);
    run.first++;
  }
  while (run.ids.length > 0 && (run.first + run.ids.length - 1) * tokens >= end) {
    pool.give(run.slab, run.ids.pop() ?? 0);
  }
}

/** Entry i of a run's page table: page k of the segment lies in entry k mod length. */
export function pageTable(run: PageRun): number[] {
  const table = new Array<number>(run.ids.length);
  run.ids.forEach((id, i) => (table[(run.first + i) % run.ids.length] = id));
  return table;
}
