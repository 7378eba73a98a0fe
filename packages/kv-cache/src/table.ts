import { invariant } from '@ensample/tensor';
import type { KvCache } from './cache.ts';
import { oldest, pageTable, type Segment } from './segment.ts';
import type { Sequence } from './sequence.ts';

/** A sequence of a step, and how many consecutive query tokens it has in it. */
export interface StepSequence {
  readonly sequence: Sequence;
  /** At least 1, and no more than were reserved. */
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
  /** Index of the sequence that ends here: whoever writes has a leaf of its own, so it has no children. */
  own: number | undefined;
}

/** A table in the making. */
interface Draft {
  readonly step: readonly StepSequence[];
  readonly stretches: Stretch[];
  readonly places: RowPlace[];
  rows: number;
}

/** Orders the rows of a step depth-first and lists the stretches of the tree above them. */
export function segmentTable(step: readonly StepSequence[]): SegmentTable {
  const draft: Draft = { step, stretches: [], places: new Array<RowPlace>(step.length), rows: 0 };
  for (const root of buildTree(step)) visit(draft, root, undefined);
  return draft;
}

function buildTree(step: readonly StepSequence[]): Node[] {
  const roots = new Map<Segment, Node>();
  step.forEach(({ sequence, rows }, index) => {
    const { leaf, length, reservedEnd } = sequence;
    invariant(
      leaf && rows >= 1 && length + rows <= reservedEnd,
      () => `sequence ${index} of a step has ${rows} rows, and ${reservedEnd - length} reserved`,
    );
    let level = roots;
    let node: Node | undefined;
    for (const segment of pathTo(leaf)) {
      node = level.get(segment) ?? { segment, children: new Map<Segment, Node>(), own: undefined };
      level.set(segment, node);
      level = node.children;
    }
    invariant(node && node.own === undefined, () => `sequence ${index} is twice in a step`);
    node.own = index;
  });
  return [...roots.values()];
}

function pathTo(leaf: Segment): Segment[] {
  const path: Segment[] = [];
  for (let segment: Segment | undefined = leaf; segment; segment = segment.parent) path.push(segment);
  return path.reverse();
}

/** Adds a node's stretches and all below it. @returns the rows of the sequences below it, in order. */
function visit(draft: Draft, node: Node, parent: number | undefined): RowRange[] {
  return node.own === undefined
    ? addShared(draft, node, parent)
    : [addLeaf(draft, node.segment, node.own, parent)];
}

function addLeaf(draft: Draft, segment: Segment, index: number, parent: number | undefined): RowRange {
  const range = { firstRow: draft.rows, rows: draft.step[index]?.rows ?? 0 };
  draft.places[index] = { ...range, leaf: draft.stretches.length };
  draft.stretches.push({
    segment,
    start: segment.start,
    end: Infinity,
    ...range,
    parent,
    sequences: [range],
  });
  draft.rows += range.rows;
  return range;
}

function addShared(draft: Draft, { segment, children }: Node, parent: number | undefined): RowRange[] {
  // Who sees most of the segment comes first, so that every stretch has a range of rows from the front.
  const branches = [...children.values()].sort((a, b) => b.segment.start - a.segment.start);
  const ends = [...new Set(branches.map((child) => child.segment.start))].reverse();
  const first = draft.stretches.length;
  const firstRow = draft.rows;
  draft.stretches.length += ends.length; // filled in below: children come first and refer to these
  const ranges: RowRange[] = [];
  const seenBy: number[] = [];
  for (const child of branches) {
    const i = ends.indexOf(child.segment.start);
    ranges.push(...visit(draft, child, first + i));
    seenBy[i] = ranges.length;
  }
  ends.forEach((end, i) => {
    const sequences = ranges.slice(0, seenBy[i]);
    draft.stretches[first + i] = {
      segment,
      start: ends[i - 1] ?? segment.start,
      end,
      firstRow,
      rows: sequences.reduce((sum, range) => sum + range.rows, 0),
      parent: i === 0 ? parent : first + i - 1,
      sequences,
    };
  });
  return ranges;
}

/** Words of a record; the last three are the attention plan's. */
export const recordWords = 12;

/**
 * Words at the front of a plan, four per kind: where its records begin, and for the attention plan where its tasks
 * begin and the quads in a head.
 */
export const headerWords = 16;

/** Upper bound of an open stretch. */
export const openEnd = 0xffff_ffff;

/** Adds records and page tables of all kinds to `words`, which holds the header so far. */
export function layOutTables(cache: KvCache, table: SegmentTable, words: number[]): void {
  for (const { index } of cache.kinds) {
    words[4 * index] = words.length;
    const pagesAt = words.length + recordWords * table.stretches.length;
    const pages: number[] = [];
    for (const { segment, start, end, firstRow, rows, parent } of table.stretches) {
      const run = segment.runs[index];
      invariant(run, () => `segment without kind ${index}`);
      const from = Math.max(start, oldest(segment, run, cache.pageTokens));
      const bound = end === Infinity ? openEnd : end;
      const entries = pageTable(run);
      words.push(from, bound, firstRow, rows, segment.start, pagesAt + pages.length);
      words.push(Math.max(1, entries.length), run.slab, parent === undefined ? 0 : parent + 1, 0, 0, 0);
      for (const page of entries) pages.push(page);
    }
    for (const page of pages) words.push(page);
  }
}
