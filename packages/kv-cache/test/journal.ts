import { InvalidOptionError } from '@ensample/tensor';
import { expect } from 'vitest';
import { oldest, type KvCache, type Segment, type Sequence } from '../src/index.ts';

/** What a sequence should hold: a number for each token, never used twice. */
export interface Entry {
  readonly sequence: Sequence;
  tokens: number[];
}

/**
 * A cache beside the simplest model of it: a list of tokens per sequence. What a GPU would write into pages is
 * written into a map, so that a page used twice shows as a wrong token.
 */
export class Journal {
  readonly cache: KvCache;
  readonly entries: Entry[] = [];
  readonly #stored = new Map<string, number>();
  #next = 1;

  constructor(cache: KvCache) {
    this.cache = cache;
  }

  open(): Entry {
    const entry: Entry = { sequence: this.cache.sequence(), tokens: [] };
    this.entries.push(entry);
    return entry;
  }

  /** Reserves `reserved` tokens, fills them all as a step with drafts does, and keeps the first `kept`. */
  write({ sequence, tokens }: Entry, reserved: number, kept: number = reserved): void {
    const before = { length: sequence.length, end: sequence.reservedEnd };
    const changed = sequence.reserve(reserved);
    if (!changed) expect(before.end).toBeGreaterThanOrEqual(before.length + reserved);
    expect(sequence.length).toBe(before.length);
    expect(sequence.reservedEnd).toBeGreaterThanOrEqual(before.length + reserved);
    for (let i = 0; i < reserved; i++) {
      if (i < kept) tokens.push(this.#next);
      this.#store(sequence, before.length + i, this.#next++);
    }
    sequence.commit(kept);
  }

  #store({ leaf }: Sequence, position: number, token: number): void {
    for (const key of this.#places(leaf!, position)) this.#stored.set(key!, token);
  }

  /** Where a segment keeps a position, kind by kind; undefined where a window has moved on. */
  #places(segment: Segment, position: number): (string | undefined)[] {
    const { pageTokens } = this.cache;
    return segment.runs.map(({ slab, first, ids }, kind) => {
      const relative = position - segment.start;
      const page = ids[Math.floor(relative / pageTokens) - first];
      return page === undefined ? undefined : [kind, slab, page, relative % pageTokens].join(' ');
    });
  }

  /** `at` outside of 0 … length is refused as it should be. */
  fork(entry: Entry, at: number): Entry | undefined {
    if (!this.#exact(entry, at)) {
      const { sequence } = entry;
      const message = `The earliest exact position is ${sequence.exactFrom(at)};`;
      expect(() => sequence.fork(at)).toThrow(InvalidOptionError);
      expect(() => sequence.fork(at)).toThrow(message);
      expect(() => sequence.truncate(at)).toThrow(message);
      return undefined;
    }
    const fork: Entry = { sequence: entry.sequence.fork(at), tokens: entry.tokens.slice(0, at) };
    this.entries.push(fork);
    return fork;
  }

  truncate(entry: Entry, length: number): boolean {
    if (!this.#exact(entry, length)) return false;
    entry.sequence.truncate(length);
    entry.tokens.length = length;
    return true;
  }

  close(entry: Entry): void {
    entry.sequence.release();
    this.entries.splice(this.entries.indexOf(entry), 1);
  }

  /** Whether all that a token at `at` looks back to is stored; compares the cache's own answer with it. */
  #exact({ sequence }: Entry, at: number): boolean {
    const complete = (position: number) =>
      this.cache.kinds.every(({ window, index }) => {
        const from = window === undefined ? 0 : Math.max(0, position - window + 1);
        return this.#path(sequence, position).every(
          ({ places }, t) => t < from || places[index] !== undefined,
        );
      });
    let earliest = at;
    while (!complete(earliest)) earliest++;
    expect(sequence.exactFrom(at)).toBe(earliest);
    return earliest === at;
  }

  /** The segment and places of each position below `length`. */
  #path(sequence: Sequence, length: number): { segment: Segment; places: (string | undefined)[] }[] {
    const path: { segment: Segment; places: (string | undefined)[] }[] = [];
    let end = length;
    for (let segment = sequence.leaf; segment; segment = segment.parent) {
      for (let t = end - 1; t >= segment.start; t--)
        path.unshift({ segment, places: this.#places(segment, t) });
      end = Math.min(end, segment.start);
    }
    return path;
  }

  /** Compares the cache with the model in every respect. */
  check(): void {
    for (const entry of this.entries) this.#checkTokens(entry);
    const segments = this.#checkUsers();
    this.#checkPages(segments);
  }

  #checkTokens({ sequence, tokens }: Entry): void {
    expect(sequence.length).toBe(tokens.length);
    const path = this.#path(sequence, sequence.length);
    expect(path.length).toBe(tokens.length);
    for (const { window, index } of this.cache.kinds) {
      const from = window === undefined ? 0 : Math.max(0, tokens.length - window + 1);
      const stored = path.slice(from).map(({ places }) => this.#stored.get(places[index] ?? 'gone'));
      expect(stored).toEqual(tokens.slice(from));
    }
  }

  /** Segments are used by exactly the sequences and segments that refer to them. */
  #checkUsers(): Set<Segment> {
    const users = new Map<Segment, Set<unknown>>();
    const refer = (user: unknown, segment: Segment) =>
      users.set(segment, (users.get(segment) ?? new Set()).add(user));
    for (const { sequence } of this.entries) {
      if (sequence.leaf) refer(sequence, sequence.leaf);
      for (let at = sequence.leaf; at?.parent; at = at.parent) {
        expect(at.start).toBeLessThanOrEqual(at.parent.start + at.parent.length);
        refer(at, at.parent);
      }
    }
    for (const [segment, those] of users) expect(segment.users).toBe(those.size);
    return new Set(users.keys());
  }

  /** Every page belongs to one segment or is free. */
  #checkPages(segments: Set<Segment>): void {
    const { pools, pageTokens } = this.cache;
    pools.forEach((pool, kind) => {
      const taken = [...segments].flatMap(({ runs }) => runs[kind]!.ids.map((id) => [runs[kind]!.slab, id]));
      expect(new Set(taken.map(String)).size).toBe(taken.length);
      expect(pool.totalPages - pool.freePages).toBe(taken.length);
      for (const [slab, id] of taken) expect(id).toBeLessThan(pool.slabs[slab!]!.pages);
      for (const segment of segments) {
        const run = segment.runs[kind]!;
        const end = oldest(segment, run, pageTokens) + run.ids.length * pageTokens;
        expect(end).toBe(segment.reservedEnd);
      }
    });
    const used = pools.reduce((sum, { usedBytes }) => sum + usedBytes, 0);
    expect(this.cache.memory.used).toBe(used);
  }
}
