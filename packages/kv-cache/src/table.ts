import { invariant } from '@ensample/tensor';
import type { KvCache } from './cache.ts';
import { oldest, pageTable, type Segment } from './segment.ts';
import type { Sequence } from './sequence.ts';

/** A sequence of a step, and how many consecutive query tokens it has in it. */
export interface StepSequence {
  readonly sequence: Sequence;
  readonly rows: number;
}

/**
 * A stretch of a segment that the same rows see: segments are cut where children were forked off before
 * their end. Rows are ordered depth-first, so that each stretch covers one range of them.
 */
export interface Stretch {
  readonly segment: Segment;
  readonly start: number;
  /** One past the last position; Infinity where the rows' own positions are the bound. */
  readonly end: number;
  readonly firstRow: number;
  readonly rows: number;
  /** Index of the stretch before it on the path. */
  readonly parent: number | undefined;
  /** Sequences below it, as (first row, rows) in row order. */
  readonly sequences: readonly RowRange[];
}

/** Consecutive rows of one sequence. */
export interface RowRange {
  readonly firstRow: number;
  readonly rows: number;
}

/** Where a sequence's rows are in a step. */
export interface RowPlace extends RowRange {
  /** Index of the stretch that its new tokens go to. */
  readonly leaf: number;
}

/** The part of the segment tree that a step reads. */
export interface SegmentTable {
  readonly stretches: readonly Stretch[];
  /** One per sequence, in the order given. */
  readonly places: readonly RowPlace[];
  readonly rows: number;
}

interface Node {
  readonly segment: Segment;
  readonly children: Map<Segment, Node>;
  /** Indices of the sequences that end here. */
  readonly own: number[];
}

/** Orders the rows of a step depth-first and lists the stretches of the tree above them. */
export function segmentTable(step: readonly StepSequence[]): SegmentTable {
  const stretches: Stretch[] = [];
  const places = new Array<RowPlace>(step.length);
  let row = 0;

  const visit = (node: Node, parent: number | undefined): RowRange[] => {
    const { segment } = node;
    // Who sees most of the segment comes first, so that every stretch has a range of rows from the front.
    const children = [...node.children.values()].sort((a, b) => b.segment.start - a.segment.start);
    const ends = children.map((child) => child.segment.start);
    const cuts = [...new Set(ends)].sort((a, b) => a - b);
    if (node.own.length > 0) cuts.push(Infinity);
    const first = stretches.length;
    const firstRow = row;
    stretches.length = first + cuts.length; // filled in below: children come first and refer to these
    const ranges: RowRange[] = [];
    const reached = new Map<number, number>();
    for (const index of node.own) {
      const { rows } = step[index] ?? { rows: 0 };
      places[index] = { firstRow: row, rows, leaf: first + cuts.length - 1 };
      ranges.push({ firstRow: row, rows });
      row += rows;
    }
    reached.set(Infinity, ranges.length);
    for (const child of children) {
      ranges.push(...visit(child, first + cuts.indexOf(child.segment.start)));
      reached.set(child.segment.start, ranges.length);
    }
    cuts.forEach((end, i) => {
      const below = ranges.slice(0, reached.get(end));
      stretches[first + i] = {
        segment,
        start: i === 0 ? segment.start : (cuts[i - 1] ?? 0),
        end,
        firstRow,
        rows: below.reduce((sum, range) => sum + range.rows, 0),
        parent: i === 0 ? parent : first + i - 1,
        sequences: below,
      };
    });
    return ranges;
  };
  for (const root of buildTree(step)) visit(root, undefined);
  return { stretches, places, rows: row };
}

function buildTree(step: readonly StepSequence[]): Node[] {
  const roots = new Map<Segment, Node>();
  step.forEach(({ sequence }, index) => {
    const leaf = sequence.leaf;
    invariant(leaf, () => `sequence ${index} of a step has nothing reserved`);
    const path: Segment[] = [];
    for (let segment: Segment | undefined = leaf; segment; segment = segment.parent) path.unshift(segment);
    let level = roots;
    for (const segment of path) {
      let node = level.get(segment);
      if (!node) level.set(segment, (node = { segment, children: new Map(), own: [] }));
      if (segment === leaf) node.own.push(index);
      level = node.children;
    }
  });
  return [...roots.values()];
}

/** Words of a record; the last three are the attention plan's. */
export const recordWords = 12;

/** Words at the front of a plan, four per kind; the first of a kind's is where its records begin. */
export const headerWords = 16;

/** Upper bound of an open stretch. */
export const openEnd = 0xffff_ffff;

/**
 * Writes records and page tables of all kinds into `words`, from `headerWords` on.
 * @returns the number of words used.
 */
export function layOutTables(cache: KvCache, table: SegmentTable, words: number[]): number {
  let at = headerWords;
  for (const kind of cache.kinds) {
    words[4 * kind.index] = at;
    let pages = at + recordWords * table.stretches.length;
    for (const { segment, start, end, firstRow, rows, parent } of table.stretches) {
      const run = segment.runs[kind.index];
      invariant(run, () => `segment without kind ${kind.index}`);
      const from = Math.max(start, oldest(segment, run, cache.pageTokens));
      const bound = end === Infinity ? openEnd : end;
      const entries = pageTable(run);
      const record = [
        from,
        bound,
        firstRow,
        rows,
        segment.start,
        pages,
        Math.max(1, entries.length),
        run.slab,
      ];
      [...record, parent === undefined ? 0 : parent + 1].forEach((word, i) => (words[at + i] = word));
      entries.forEach((page, i) => (words[pages + i] = page));
      pages += entries.length;
      at += recordWords;
    }
    at = pages;
  }
  return at;
}
