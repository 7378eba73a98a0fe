import { InvalidOptionError } from '@ensample/tensor';
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

/** A size of tasks. */
export interface Tile {
  /** Query vectors (rows × query heads per key/value head), at most. */
  readonly vectors: number;
  /** Tasks that a long stretch is cut into for each key/value head, at most. Default: as many as it has chunks. */
  readonly tasks?: number;
}

/** How the tasks of a step are cut. */
export interface Tiling {
  /** Keys in a task, at least; a multiple of the page size. Longer stretches are split, and the parts merged. */
  readonly chunk: number;
  /** The first of these that holds all query vectors of a stretch is taken, else the last. */
  readonly tiles: readonly Tile[];
  /** Tasks of up to so many query vectors, which are short, come last. Default 0. */
  readonly few?: number;
  /**
   * Who reads a shared stretch: all rows below it in one task (bifurcated attention), or each sequence for itself,
   * sequences outermost: what engines without it do, kept as the baseline that benchmarks compare with.
   */
  readonly reading: 'shared' | 'per-sequence';
}

/**
 * KV bytes that attention reads in a step, real reads: bytes of each stretch × the tiles of rows that read it.
 * The last stretch of a sequence counts up to its reserved end, windows from a page's begin on.
 */
export interface ReadBytes {
  /** With this plan. */
  readonly planned: number;
  /** If every sequence read its whole path for itself: what `reading: 'per-sequence'` plans. */
  readonly perSequence: number;
}

/** A step's plan before upload. */
export interface StepPlan {
  readonly words: Uint32Array<ArrayBuffer>;
  readonly places: readonly RowPlace[];
  readonly rows: number;
  /** Rows of partial results that the step needs. */
  readonly slots: number;
  /** Query vectors of the largest task. */
  readonly widest: number;
  readonly reads: ReadBytes;
}

interface Task {
  readonly slab: number;
  /** Query vectors. */
  readonly count: number;
  /** For the baseline's order: which sequence of the stretch. */
  readonly order: number;
  readonly words: readonly [number, number];
}

/** A task packs its record and first query vector, its part and number of vectors into 16 bits each. */
const packed = 2 ** 16;

/**
 * Bifurcated attention as data (arXiv 2403.08845 §4, for any tree): which part of which segment is attended by
 * which rows. Each stretch becomes splits × row tiles tasks; partial results lie at
 * `partials + split · rows + row`.
 * @throws InvalidOptionError when a step has more query vectors than a plan can number.
 */
export function planStep(
  cache: KvCache,
  share: number,
  tiling: Tiling,
  step: readonly StepSequence[],
): StepPlan {
  const table = segmentTable(step);
  if (table.rows * share > packed) {
    throw new InvalidOptionError(
      `a step of ${table.rows} rows × ${share} query heads per key/value head is too large: ` +
        `at most ${Math.floor(packed / share)} rows fit, prefill in shorter chunks`,
    );
  }
  const words = new Array<number>(headerWords).fill(0);
  layOutTables(cache, table, words);
  const shortest = shortestBelow(table, step);
  const plans = cache.kinds.map((kind) => planKind(cache, kind, { share, tiling, table, shortest, words }));
  return {
    words: Uint32Array.from(words),
    places: table.places,
    rows: table.rows,
    slots: Math.max(0, ...plans.map(({ slots }) => slots)),
    widest: Math.max(0, ...plans.map(({ widest }) => widest)),
    reads: {
      planned: plans.reduce((sum, { planned }) => sum + planned, 0),
      perSequence: plans.reduce((sum, { perSequence }) => sum + perSequence, 0),
    },
  };
}

/** For each stretch, the fewest tokens stored that a sequence below it has. */
function shortestBelow(table: SegmentTable, step: readonly StepSequence[]): number[] {
  const lengths = new Map(
    table.places.map(({ firstRow }, i) => [firstRow, step[i]?.sequence.length ?? 0] as const),
  );
  return table.stretches.map(({ sequences }) =>
    Math.min(...sequences.map(({ firstRow }) => lengths.get(firstRow) ?? 0)),
  );
}

interface KindInput {
  readonly share: number;
  readonly tiling: Tiling;
  readonly table: SegmentTable;
  readonly shortest: readonly number[];
  readonly words: number[];
}

/** Completes the records of a kind and adds its tasks. */
function planKind(
  cache: KvCache,
  kind: KvKind,
  { share, tiling, table, shortest, words }: KindInput,
): ReadBytes & Pick<StepPlan, 'slots' | 'widest'> {
  const tasks: Task[] = [];
  let slots = 0;
  let planned = 0;
  let perSequence = 0;
  table.stretches.forEach((stretch, index) => {
    const span = keySpan(cache, kind, stretch, shortest[index] ?? 0);
    const chunk = chunkOf(stretch, kind, { share, tiling, pageTokens: cache.pageTokens });
    const splits = countSplits(stretch, span, chunk);
    const record = (words[4 * kind.index] ?? 0) + recordWords * index;
    words[record] = span.start;
    [splits, slots, chunk].forEach((word, i) => (words[record + 9 + i] = word));
    slots += splits * stretch.rows;
    const slab = stretch.segment.runs[kind.index]?.slab ?? 0;
    const tiles = rowTiles(stretch, share, tiling);
    for (let split = 0; split < splits; split++) {
      for (const { first, count, order } of tiles) {
        tasks.push({ slab, count, order, words: [index + first * packed, split + count * packed] });
      }
    }
    const bytes = readBytes(cache, kind, Math.max(0, span.end - span.start));
    planned += bytes * tiles.length;
    perSequence += bytes * rowTiles(stretch, share, { ...tiling, reading: 'per-sequence' }).length;
  });
  layOutTasks(cache, kind, tasks, tiling, words);
  words[4 * kind.index + 2] = cache.layout.headDim / 4;
  const widest = tasks.reduce((most, { count }) => Math.max(most, count), 0);
  return { slots, widest, planned, perSequence };
}

/** Positions of a stretch that any of its rows can see: the row of the `shortest` sequence sees furthest back. */
function keySpan(cache: KvCache, kind: KvKind, stretch: Stretch, shortest: number) {
  const { segment } = stretch;
  const end = stretch.end === Infinity ? segment.reservedEnd : stretch.end;
  if (kind.window === undefined) return { start: stretch.start, end };
  const run = segment.runs[kind.index];
  const stored = run ? oldest(segment, run, cache.pageTokens) : segment.start;
  const seen = shortest - kind.window + 1 - segment.start;
  // Whole pages, so that a plan stays good while its rows move on within one.
  const aligned = segment.start + Math.floor(seen / cache.pageTokens) * cache.pageTokens;
  return { start: Math.max(stretch.start, stored, aligned), end };
}

/**
 * Keys in a part: what is complete is cut into as many tasks as suit its tiles; what still grows has parts of one size.
 */
function chunkOf(
  stretch: Stretch,
  { window = Infinity }: KvKind,
  { share, tiling, pageTokens }: { share: number; tiling: Tiling; pageTokens: number },
): number {
  const { start, end } = stretch;
  const vectors = share * Math.max(...rangesOf(stretch, tiling).map(({ rows }) => rows));
  const tile = tileFor(tiling, vectors);
  if (end === Infinity || tile?.tasks === undefined) return tiling.chunk;
  const parts = Math.max(1, Math.floor(tile.tasks / Math.ceil(vectors / tile.vectors)));
  const wanted = Math.min(end - start, window) / parts;
  return Math.max(tiling.chunk, pageTokens * Math.ceil(wanted / pageTokens));
}

function tileFor({ tiles }: Tiling, vectors: number): Tile | undefined {
  return tiles.find((tile) => tile.vectors >= vectors) ?? tiles.at(-1);
}

function countSplits(stretch: Stretch, span: { start: number; end: number }, chunk: number): number {
  if (span.end <= span.start) return 0;
  const base = stretch.segment.start;
  return Math.ceil((span.end - base) / chunk) - Math.floor((span.start - base) / chunk);
}

/** Rows that read a stretch together. */
function rangesOf(
  { firstRow, rows, sequences }: Stretch,
  { reading }: Tiling,
): readonly { readonly firstRow: number; readonly rows: number }[] {
  return reading === 'shared' ? [{ firstRow, rows }] : sequences;
}

/** Query vectors of a stretch, cut into tiles: over all its rows, or within each sequence's. */
function rowTiles(stretch: Stretch, share: number, tiling: Tiling) {
  return rangesOf(stretch, tiling).flatMap((range, order) => {
    const begin = (range.firstRow - stretch.firstRow) * share;
    const all = range.rows * share;
    const most = tileFor(tiling, all)?.vectors ?? all;
    return Array.from({ length: Math.ceil(all / most) }, (_, i) => ({
      first: begin + i * most,
      count: Math.min(most, all - i * most),
      order,
    }));
  });
}

function readBytes(cache: KvCache, kind: KvKind, tokens: number): number {
  const { kvHeads, headDim, layers } = cache.layout;
  const readers = layers.filter((layer) => kind.owners.includes(layer.kvSource)).length;
  return 2 * kvHeads * headDim * (cache.dtype === 'f16' ? 2 : 4) * tokens * readers;
}

/** A directory of (first word, number) for each slab's tasks, then these tasks. */
function layOutTasks(cache: KvCache, kind: KvKind, tasks: Task[], tiling: Tiling, words: number[]): void {
  const { few = 0, reading } = tiling;
  const lists = Array.from({ length: cache.slabs }, (_, slab) => {
    const own = tasks.filter((task) => task.slab === slab);
    if (reading === 'per-sequence') own.sort((a, b) => a.order - b.order);
    return [...own.filter(({ count }) => count > few), ...own.filter(({ count }) => count <= few)];
  });
  words[4 * kind.index + 1] = words.length;
  let at = words.length + 2 * lists.length;
  for (const list of lists) {
    words.push(at, list.length);
    at += 2 * list.length;
  }
  for (const task of lists.flat()) words.push(...task.words);
}
