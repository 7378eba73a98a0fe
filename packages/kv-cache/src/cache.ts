import {
  InvalidOptionError,
  invariant,
  OutOfMemoryError,
  type Device,
  type GpuTensor,
} from '@ensample/tensor';
import { firstInWindow, kindsOf, placesOf, type KvKind, type KvLayout, type LayerPlace } from './layout.ts';
import { PagePool } from './pool.ts';
import { deadPages, extendRun, movePages, trimRun, type PageRun, type Segment } from './segment.ts';
import { Sequence } from './sequence.ts';
import { defaultDraftLimit, pagesFor } from './sizing.ts';

/** Options of {@link KvCache}. */
export interface KvCacheOptions {
  /** Tokens in a page; a power of two from 4 to 256. Default 32. */
  readonly pageTokens?: number;
  /** Tokens by which a leaf may be cut back exactly (rejected drafts) on models with windows. Default 32. */
  readonly draftLimit?: number;
  /** Element type. Default: the device tier's. */
  readonly dtype?: 'f32' | 'f16';
  /** Bytes that a buffer of pages has at most, one per owner and slab. Default: the device's largest binding. */
  readonly slabBytes?: number;
}

/** Bytes of KV. */
export interface KvMemory {
  /** Of pages in use by segments. */
  readonly used: number;
  /** Of all slabs on the device. */
  readonly allocated: number;
}

/**
 * Keys and values of all sequences, as a tree of segments over pools of pages: one pool per kind of
 * owner (all positions, or a window), with the same page numbers for every owner of the kind.
 */
export class KvCache {
  readonly device: Device;
  readonly layout: KvLayout;
  readonly kinds: readonly KvKind[];
  /** For each layer, where its KV is. */
  readonly places: readonly LayerPlace[];
  readonly pools: readonly PagePool[];
  readonly pageTokens: number;
  readonly draftLimit: number;
  readonly dtype: 'f32' | 'f16';
  /** With pages or users. */
  readonly #segments = new Set<Segment>();

  /**
   * @throws InvalidOptionError for an option out of its range.
   * @throws InvalidModelError when layers and their KV sources do not fit together.
   * @throws OutOfMemoryError when a page is larger than a slab may be.
   */
  constructor(device: Device, layout: KvLayout, options: KvCacheOptions = {}) {
    const {
      pageTokens = 32,
      draftLimit = defaultDraftLimit,
      dtype = device.tier.kv,
      slabBytes = Infinity,
    } = options;
    checkOptions(pageTokens, draftLimit);
    this.device = device;
    this.layout = layout;
    this.kinds = kindsOf(layout);
    this.places = placesOf(layout, this.kinds);
    this.pageTokens = pageTokens;
    this.draftLimit = draftLimit;
    this.dtype = dtype;
    const { kvHeads, headDim } = layout;
    this.pools = this.kinds.map(({ owners }) => {
      const shape = { owners: owners.length, kvHeads, headDim, tokens: pageTokens, dtype };
      return new PagePool(device, shape, slabBytes);
    });
  }

  /** A new, empty sequence. */
  sequence(): Sequence {
    return new Sequence(this, undefined, 0);
  }

  /** Most slabs that any kind has; attention is recorded once per slab. */
  get slabs(): number {
    return Math.max(1, ...this.pools.map((pool) => pool.slabs.length));
  }

  /** Changes whenever slabs do: what was recorded with other slabs must be recorded again. */
  get version(): number {
    return this.pools.reduce((sum, pool) => sum + pool.version, 0);
  }

  /** Most tokens that one {@link Sequence.reserve} can make room for: what a slab of each kind holds. */
  get maxReserve(): number {
    return Math.min(...this.pools.map((pool) => pool.slabPages)) * this.pageTokens;
  }

  /**
   * Sees to it that sequences can take `pages[kind]` more pages without growing the pools.
   * @throws DeviceLostError
   */
  ensure(pages: readonly number[]): void {
    this.pools.forEach((pool, k) => pool.ensure(pages[k] ?? 0));
  }

  /** Bytes by which {@link ensure} would make the cache larger; less than 0 where idle slabs are replaced by smaller ones. */
  growth(pages: readonly number[]): number {
    return this.pools.reduce((sum, pool, k) => sum + pool.growth(pages[k] ?? 0), 0);
  }

  /**
   * Copies the slabs of each kind into one where one binding can hold them: attention is recorded once per slab. Plans made
   * before are out of date, and no step may be on its way to be recorded.
   * @param room bytes that may be taken meanwhile, as many as the joined slab has. Where they are not there, slabs stay as they are.
   */
  async join(room: number = Infinity): Promise<void> {
    for (const [kind, pool] of this.pools.entries()) {
      if (pool.joinBytes === 0 || pool.joinBytes > room) continue;
      try {
        const offsets = await pool.join();
        for (const { runs } of this.#segments) movePages(runs[kind], offsets);
      } catch (error) {
        if (!(error instanceof OutOfMemoryError)) throw error;
      }
    }
  }

  /** Frees slabs that nothing uses: after running out of memory, or to make room for others. */
  shrink(): void {
    for (const pool of this.pools) pool.shrink();
  }

  /** Bytes in use and on the device. */
  get memory(): KvMemory {
    const allocated = this.pools.flatMap((pool) => pool.slabs.flatMap((slab) => slab.buffers));
    return {
      used: this.pools.reduce((sum, pool) => sum + pool.usedBytes, 0),
      allocated: allocated.reduce((sum, buffer) => sum + buffer.byteLength, 0),
    };
  }

  /** The buffer a layer reads (and writes, if it owns) in a slab; undefined where its kind has fewer slabs. */
  buffer(layer: number, slab: number): GpuTensor | undefined {
    const place = this.places[layer];
    return place && this.pools[place.kind]?.slabs[slab]?.buffers[place.owner];
  }

  /**
   * Pages that a segment of `tokens` tokens takes in a kind, when it grows by up to `step` tokens at a time:
   * all of them, or a ring of window + draft limit + step tokens.
   */
  pagesFor(kind: KvKind, tokens: number, step: number): number {
    return pagesFor(kind, tokens, step, this);
  }

  /** Lowest position that a sequence of `length` tokens may still need in a kind, `slack` tokens of rollback included. */
  lowestNeeded(kind: KvKind, length: number, slack: number = this.draftLimit): number {
    return firstInWindow(length - slack, kind);
  }

  /** @internal A segment after `parent`, in slabs with the most room. */
  createSegment(parent: Segment | undefined, start: number): Segment {
    const runs = this.pools.map((pool) => ({ slab: pool.roomiest(), first: 0, ids: [] }));
    if (parent) parent.users++;
    const segment = { parent, start, length: 0, reservedEnd: start, runs, users: 1 };
    this.#segments.add(segment);
    return segment;
  }

  /**
   * @internal Makes room in a segment for positions up to `end`, in whole pages.
   * @returns false, having done nothing, when one of its slabs has too few pages.
   */
  extend(segment: Segment, length: number, end: number): boolean {
    if (end <= segment.reservedEnd) return true;
    const pages = Math.ceil((end - segment.start) / this.pageTokens);
    const parts = this.#parts(segment).map(({ pool, kind, run }) => {
      const lowest = this.lowestNeeded(kind, length) - segment.start;
      return { pool, run, dead: deadPages(run, lowest, this.pageTokens) };
    });
    const fits = parts.every(
      ({ pool, run, dead }) => pages - run.first - run.ids.length - dead <= pool.freeIn(run.slab),
    );
    if (!fits) return false;
    for (const { pool, run, dead } of parts) extendRun(pool, run, pages, dead);
    segment.reservedEnd = segment.start + pages * this.pageTokens;
    return true;
  }

  /** @internal Gives back pages of a segment below each window (`slack` tokens of rollback kept) and from its end on. */
  trim(segment: Segment, slack: number): void {
    const end = segment.start + segment.length;
    const pages = Math.ceil(segment.length / this.pageTokens);
    for (const { pool, kind, run } of this.#parts(segment)) {
      const lowest = this.lowestNeeded(kind, end, slack) - segment.start;
      trimRun(pool, run, pages, deadPages(run, lowest, this.pageTokens));
    }
    segment.reservedEnd = segment.start + pages * this.pageTokens;
  }

  /** A segment's pages of each kind. */
  #parts(segment: Segment): { pool: PagePool; kind: KvKind; run: PageRun }[] {
    return this.kinds.map((kind) => {
      const pool = this.pools[kind.index];
      const run = segment.runs[kind.index];
      invariant(pool && run, () => `segment without kind ${kind.index}`);
      return { pool, kind, run };
    });
  }

  /** @internal One user less; without users its pages go back, and so on up to the root. */
  release(segment: Segment): void {
    for (let at: Segment | undefined = segment; at; at = at.parent) {
      if (--at.users > 0) return;
      this.#segments.delete(at);
      for (const { pool, run } of this.#parts(at)) {
        for (const id of run.ids.splice(0)) pool.give(run.slab, id);
      }
    }
  }

  /** Frees all slabs. Sequences must not be used afterwards. */
  destroy(): void {
    for (const pool of this.pools) pool.destroy();
  }
}

function checkOptions(pageTokens: number, draftLimit: number): void {
  const powerOfTwo = Number.isInteger(Math.log2(pageTokens));
  if (!powerOfTwo || pageTokens < 4 || pageTokens > 256) {
    throw new InvalidOptionError(`pageTokens is ${pageTokens}: it must be a power of two from 4 to 256`);
  }
  if (!Number.isInteger(draftLimit) || draftLimit < 0) {
    throw new InvalidOptionError(`draftLimit is ${draftLimit}: it must be an integer from 0 on`);
  }
}
