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

/** Pages at the front of a run that lie wholly below `lowest`, counted from the segment's start. */
export function deadPages(run: PageRun, lowest: number, pageTokens: number): number {
  return Math.min(run.ids.length, Math.max(0, Math.floor(lowest / pageTokens) - run.first));
}

/**
 * Makes a run reach up to page `end`. The `dead` pages at its front move to the end first: with a constant number
 * of pages, page k + n is where page k was, which is how the kernels address them, so that a ring needs no new table.
 */
export function extendRun(pool: PagePool, run: PageRun, end: number, dead: number): void {
  const wanted = Math.max(0, end - run.first - run.ids.length);
  const reused = run.ids.splice(0, Math.min(wanted, dead));
  run.first += reused.length;
  run.ids.push(...reused);
  for (let i = reused.length; i < wanted; i++) run.ids.push(pool.take(run.slab));
}

/** Gives back the `dead` pages at the front of a run, and those from page `end` on. */
export function trimRun(pool: PagePool, run: PageRun, end: number, dead: number): void {
  const kept = Math.max(dead, end - run.first);
  const given = [...run.ids.splice(kept), ...run.ids.splice(0, dead)];
  run.first += dead;
  for (const id of given) pool.give(run.slab, id);
}

/** Pages whose slab has become a part of the first one, from page `offsets[slab]` on. */
export function movePages(run: PageRun | undefined, offsets: readonly number[]): void {
  if (!run) return;
  const offset = offsets[run.slab] ?? 0;
  run.ids = run.ids.map((id) => id + offset);
  run.slab = 0;
}

/** Entry i of a run's page table: page k of the segment lies in entry k mod length. */
export function pageTable(run: PageRun): number[] {
  const table = new Array<number>(run.ids.length);
  run.ids.forEach((id, i) => (table[(run.first + i) % run.ids.length] = id));
  return table;
}
