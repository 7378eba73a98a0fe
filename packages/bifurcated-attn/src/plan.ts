import {
  headerWords,
  layOutTables,
  oldest,
  recordWords,
  segmentTable,
  type KvCache,
  type KvKind,
  type RowPlace,
  type SegmentTable,
  type StepSequence,
  type Stretch,
} from '@ensample/kv-cache';

/** How the tasks of a step are cut. */
export interface Tiling {
  /** Keys in a task; a multiple of the page size. Longer stretches are split, and the parts merged. */
  readonly chunk: number;
  /** Query vectors (rows × query heads per key/value head) in a task. */
  readonly vectors: number;
  /**
   * Who reads a shared stretch: all rows below it in one task (bifurcated attention), or each sequence for itself,
   * sequences outermost: what engines without it do, kept as the baseline that benchmarks compare with.
   */
  readonly reading: 'shared' | 'per-sequence';
}

/** KV bytes that attention reads in a step, real reads: bytes of each stretch × the tiles of rows that read it. */
export interface ReadBytes {
  /** With this plan. */
  readonly planned: number;
  /** If every sequence read its whole path for itself. */
  readonly perSequence: number;
}

/** A step's plan before upload. */
export interface StepPlan {
  readonly words: Uint32Array<ArrayBuffer>;
  readonly places: readonly RowPlace[];
  readonly rows: number;
  /** Rows of partial results that the step needs. */
  readonly slots: number;
  readonly reads: ReadBytes;
}

interface Task {
  readonly slab: number;
  /** For the baseline's order: which sequence of the stretch. */
  readonly order: number;
  readonly words: readonly [number, number];
}

/**
 * Bifurcated attention as data (arXiv 2403.08845 §4, for any tree): which part of which segment is attended by
 * which rows. Each stretch becomes splits × row tiles tasks; partial results lie at
 * `partials + split · rows + row`.
 */
export function planStep(
  cache: KvCache,
  share: number,
  tiling: Tiling,
  step: readonly StepSequence[],
): StepPlan {
  const table = segmentTable(step);
  const words: number[] = new Array<number>(headerWords).fill(0);
  let at = layOutTables(cache, table, words);
  let slots = 0;
  const reads = { planned: 0, perSequence: 0 };
  for (const kind of cache.kinds) {
    const tasks: Task[] = [];
    let kindSlots = 0;
    table.stretches.forEach((stretch, index) => {
      const span = keySpan(cache, kind, stretch, step, table);
      const record = (words[4 * kind.index] ?? 0) + recordWords * index;
      if (words[record] !== undefined) words[record] = Math.max(words[record], span.start);
      const splits = countSplits(stretch, span, tiling.chunk);
      words.splice(record + 9, 3, splits, kindSlots, tiling.chunk);
      kindSlots += splits * stretch.rows;
      const slab = stretch.segment.runs[kind.index]?.slab ?? 0;
      const tiles = rowTiles(stretch, share, tiling);
      for (let split = 0; split < splits; split++) {
        for (const { first, count, order } of tiles) {
          tasks.push({ slab, order, words: [index | (first << 16), split | (count << 16)] });
        }
      }
      const bytes = readBytes(cache, kind, Math.max(0, span.end - span.start));
      reads.planned += bytes * tiles.length;
      reads.perSequence += bytes * stretch.sequences.length;
    });
    slots = Math.max(slots, kindSlots);
    at = layOutTasks(cache, kind, tasks, tiling, words, at);
  }
  return { words: Uint32Array.from(words), places: table.places, rows: table.rows, slots, reads };
}

/** Positions of a stretch that any of its rows can see, as far as the host knows their positions. */
function keySpan(
  cache: KvCache,
  kind: KvKind,
  stretch: Stretch,
  step: readonly StepSequence[],
  table: SegmentTable,
) {
  const { segment } = stretch;
  const run = segment.runs[kind.index];
  const stored = run ? oldest(segment, run, cache.pageTokens) : segment.start;
  const end = stretch.end === Infinity ? segment.reservedEnd : stretch.end;
  if (kind.window === undefined) return { start: stretch.start, end };
  const below = step.filter((_, i) => {
    const place = table.places[i];
    return place && place.firstRow >= stretch.firstRow && place.firstRow < stretch.firstRow + stretch.rows;
  });
  const seen = Math.min(...below.map(({ sequence }) => sequence.length)) - kind.window + 1;
  // Whole pages, so that a plan stays good while its rows move on within one.
  const aligned = segment.start + Math.floor((seen - segment.start) / cache.pageTokens) * cache.pageTokens;
  return { start: Math.max(stretch.start, stored, aligned), end };
}

function countSplits(stretch: Stretch, span: { start: number; end: number }, chunk: number): number {
  if (span.end <= span.start) return 0;
  const base = stretch.segment.start;
  return Math.ceil((span.end - base) / chunk) - Math.floor((span.start - base) / chunk);
}

/** Query vectors of a stretch, cut into tiles: over all its rows, or within each sequence's. */
function rowTiles(stretch: Stretch, share: number, { vectors, reading }: Tiling) {
  const ranges =
    reading === 'shared' ? [{ firstRow: stretch.firstRow, rows: stretch.rows }] : stretch.sequences;
  return ranges.flatMap((range, order) => {
    const begin = (range.firstRow - stretch.firstRow) * share;
    const end = begin + range.rows * share;
    const tiles: { first: number; count: number; order: number }[] = [];
    for (let first = begin; first < end; first += vectors) {
      tiles.push({ first, count: Math.min(vectors, end - first), order });
    }
    return tiles;
  });
}

function readBytes(cache: KvCache, kind: KvKind, tokens: number): number {
  const { kvHeads, headDim, layers } = cache.layout;
  const readers = layers.filter((layer) => kind.owners.includes(layer.kvSource)).length;
  return 2 * kvHeads * headDim * (cache.dtype === 'f16' ? 2 : 4) * tokens * readers;
}

/** A directory of (first word, number) per slab, then the tasks of each slab. */
function layOutTasks(
  cache: KvCache,
  kind: KvKind,
  tasks: Task[],
  tiling: Tiling,
  words: number[],
  start: number,
): number {
  const directory = start;
  words[4 * kind.index + 1] = directory;
  let at = directory + 2 * cache.slabs;
  for (let slab = 0; slab < cache.slabs; slab++) {
    const own = tasks.filter((task) => task.slab === slab);
    if (tiling.reading === 'per-sequence') own.sort((a, b) => a.order - b.order);
    words[directory + 2 * slab] = at;
    words[directory + 2 * slab + 1] = own.length;
    for (const task of own) for (const word of task.words) words[at++] = word >>> 0;
  }
  return at;
}
