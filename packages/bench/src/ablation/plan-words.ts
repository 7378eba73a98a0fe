import { openEnd, recordWords, type KvCache } from '@ensample/kv-cache';

/** A stretch of a segment, as its record in a plan says it; see `Segment` in the kernels. */
export interface PlannedStretch {
  readonly start: number;
  /** One past the last key; `openEnd` where the rows' own positions are the bound. */
  readonly end: number;
  readonly firstRow: number;
  /** Position of the segment's first key. */
  readonly base: number;
  /** Keys in a part. */
  readonly chunk: number;
}

/** A task of a plan: a part of a stretch's keys for some of its query vectors. */
export interface PlannedTask {
  readonly words: Uint32Array;
  readonly stretch: PlannedStretch;
  readonly part: number;
  /** First and last row of the batch that it serves. */
  readonly firstRow: number;
  readonly lastRow: number;
}

/** The tasks of one kind of layer in one slab: what a dispatch of attention runs. */
export interface TaskList {
  readonly kind: number;
  /** Word that holds where the tasks begin; their number is in the next. */
  readonly directory: number;
  readonly tasks: readonly PlannedTask[];
}

/** Word at which the record of a stretch begins. */
export function recordAt(words: Uint32Array, kind: number, stretch: number): number {
  return at(words, 4 * kind) + recordWords * stretch;
}

/**
 * Reads the tasks of a plan as the kernels do.
 * @param share query heads per key/value head.
 */
export function taskLists(words: Uint32Array, cache: KvCache, share: number): TaskList[] {
  const slabs = Array.from({ length: cache.slabs }, (_, slab) => slab);
  return cache.kinds.flatMap(({ index: kind }) =>
    slabs.map((slab): TaskList => {
      const directory = at(words, 4 * kind + 1) + 2 * slab;
      const first = at(words, directory);
      const count = at(words, directory + 1);
      const tasks = Array.from({ length: count }, (_, i) => taskAt(words, kind, first + 2 * i, share));
      return { kind, directory, tasks };
    }),
  );
}

function taskAt(words: Uint32Array, kind: number, index: number, share: number): PlannedTask {
  const [a, b] = [at(words, index), at(words, index + 1)];
  const record = recordAt(words, kind, a & 0xffff);
  const firstRow = at(words, record + 2);
  const stretch = {
    start: at(words, record),
    end: at(words, record + 1),
    firstRow,
    base: at(words, record + 4),
    chunk: at(words, record + 11),
  };
  const vector = a >>> 16;
  const last = vector + (b >>> 16) - 1;
  return {
    words: words.slice(index, index + 2),
    stretch,
    part: b & 0xffff,
    firstRow: firstRow + Math.floor(vector / share),
    lastRow: firstRow + Math.floor(last / share),
  };
}

/** The same plan with only some of its tasks. */
export function withTasks(
  words: Uint32Array,
  lists: readonly TaskList[],
  keep: (task: PlannedTask) => boolean,
): Uint32Array<ArrayBuffer> {
  const kept = Uint32Array.from(words);
  for (const { directory, tasks } of lists) {
    const own = tasks.filter(keep);
    kept[directory + 1] = own.length;
    own.forEach((task, i) => kept.set(task.words, at(words, directory) + 2 * i));
  }
  return kept;
}

/**
 * KV bytes that the layers of a step read: the keys of each task, once a task.
 * @param positions of the batch's rows.
 */
export function kvBytes(lists: readonly TaskList[], cache: KvCache, positions: readonly number[]): number {
  const { kvHeads, headDim, layers } = cache.layout;
  const bytes = 2 * kvHeads * headDim * (cache.dtype === 'f16' ? 2 : 4);
  return lists.reduce((sum, { kind, tasks }) => {
    const { owners = [], window } = cache.kinds[kind] ?? {};
    const readers = layers.filter(({ kvSource }) => owners.includes(kvSource)).length;
    const keys = tasks.reduce((all, task) => all + keysOf(task, positions, window), 0);
    return sum + bytes * readers * keys;
  }, 0);
}

/** Keys of a task, as the kernels find them. */
function keysOf(task: PlannedTask, positions: readonly number[], window = Infinity): number {
  const { start, end, base, chunk } = task.stretch;
  const seenBy = positions.slice(task.firstRow, task.lastRow + 1);
  const part = base + (Math.floor((start - base) / chunk) + task.part) * chunk;
  const from = Math.max(part, start, Math.min(...seenBy) + 1 - window);
  const to = Math.min(part + chunk, end === openEnd ? Math.max(...seenBy) + 1 : end);
  return Math.max(0, to - from);
}

function at(words: Uint32Array, index: number): number {
  return words[index] ?? 0;
}
