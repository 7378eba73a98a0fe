import { bytesPerElement, invariant, OutOfMemoryError, type Device, type GpuTensor } from '@ensample/tensor';

/** Pages in one run of device memory: the same page number in each owner's buffer. */
export interface Slab {
  readonly pages: number;
  /** `[pages, 2 (keys, values), kvHeads, pageTokens, headDim]`, one per owner of the kind. */
  readonly buffers: readonly GpuTensor[];
}

/** Shape of a page. */
export interface PageShape {
  readonly owners: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Tokens in a page. */
  readonly tokens: number;
  readonly dtype: 'f32' | 'f16';
}

/** Pages of one kind. Grows by slabs, each of which one binding can hold; pages are handed out within a slab. */
export class PagePool {
  readonly slabs: Slab[] = [];
  readonly shape: PageShape;
  /** Pages that a slab has at most. */
  readonly slabPages: number;
  readonly #device: Device;
  readonly #free: number[][] = [];
  readonly #taken: Set<number>[] = [];
  #version = 0;

  /**
   * @param slabBytes bytes that one owner's buffer in a slab has at most.
   * @throws OutOfMemoryError when not even a page is that small.
   */
  constructor(device: Device, shape: PageShape, slabBytes: number) {
    this.#device = device;
    this.shape = shape;
    const most = Math.min(slabBytes, device.maxBindingBytes);
    this.slabPages = Math.floor(most / this.pageBytes);
    if (!(this.slabPages >= 1)) {
      throw new OutOfMemoryError(
        `a KV page of ${this.pageBytes} bytes is larger than a slab may be (${most}): use a smaller pageTokens`,
      );
    }
  }

  /** Bytes of one page in one owner's buffer. */
  get pageBytes(): number {
    const { kvHeads, headDim, tokens, dtype } = this.shape;
    return 2 * kvHeads * headDim * tokens * bytesPerElement[dtype];
  }

  /** Pages of all slabs. */
  get totalPages(): number {
    return this.slabs.reduce((sum, slab) => sum + slab.pages, 0);
  }

  /** Pages not handed out. */
  get freePages(): number {
    return this.#free.reduce((sum, free) => sum + free.length, 0);
  }

  /** Bytes of pages handed out, all owners together. */
  get usedBytes(): number {
    return (this.totalPages - this.freePages) * this.pageBytes * this.shape.owners;
  }

  /** Changes whenever slabs do, so that recordings made before are out of date. */
  get version(): number {
    return this.#version;
  }

  /**
   * Sees to it that a slab has at least `pages` free pages, or that the pool has them over several slabs where
   * one cannot hold them. New slabs at least double the pool, so that they stay few; an idle pool is replaced
   * by as few slabs as can be.
   */
  ensure(pages: number): void {
    const missing = this.#missing(pages);
    if (missing === 0) return;
    if (this.#idle) this.destroy();
    for (let left = missing; left > 0; left -= this.slabPages) this.#addSlab(Math.min(left, this.slabPages));
  }

  /** Bytes, of all owners, by which {@link ensure} would make the pool larger; less than 0 where it would shrink. */
  growth(pages: number): number {
    const missing = this.#missing(pages);
    const replaced = missing > 0 && this.#idle ? this.totalPages : 0;
    return (missing - replaced) * this.pageBytes * this.shape.owners;
  }

  get #idle(): boolean {
    return this.freePages === this.totalPages;
  }

  /** Pages that new slabs must have. */
  #missing(pages: number): number {
    const wanted = Math.min(pages, this.slabPages);
    if (this.#free.some((free) => free.length >= wanted) && this.freePages >= pages) return 0;
    return this.#idle ? pages : Math.max(wanted, pages - this.freePages, this.totalPages);
  }

  /** A buffer for each owner. */
  #makeBuffers(pages: number): GpuTensor[] {
    const { owners, kvHeads, headDim, tokens, dtype } = this.shape;
    const buffers: GpuTensor[] = [];
    try {
      for (let i = 0; i < owners; i++) {
        buffers.push(this.#device.tensor(dtype, [pages, 2, kvHeads, tokens, headDim]));
      }
      return buffers;
    } catch (error) {
      for (const buffer of buffers) buffer.destroy();
      throw error;
    }
  }

  #addSlab(pages: number): void {
    this.slabs.push({ pages, buffers: this.#makeBuffers(pages) });
    this.#free.push(Array.from({ length: pages }, (_, i) => pages - 1 - i));
    this.#taken.push(new Set());
    this.#version++;
  }

  /** Bytes that {@link join} takes on the way; 0 while there is but one slab, or where one could not hold the pages of all. */
  get joinBytes(): number {
    if (this.slabs.length < 2 || this.totalPages > this.slabPages) return 0;
    return this.totalPages * this.pageBytes * this.shape.owners;
  }

  /**
   * Copies all slabs into one.
   * @returns for each slab by how much the numbers of its pages have gone up.
   * @throws OutOfMemoryError, having changed nothing.
   */
  async join(): Promise<number[]> {
    const pages = this.totalPages;
    let buffers: GpuTensor[] = [];
    try {
      await this.#device.checkMemory(`a slab of ${pages} KV pages`, () => {
        buffers = this.#makeBuffers(pages);
      });
    } catch (error) {
      for (const buffer of buffers) buffer.destroy();
      throw error;
    }
    const offsets: number[] = [];
    const encoder = this.#device.gpu.createCommandEncoder();
    let first = 0;
    for (const slab of this.slabs) {
      offsets.push(first);
      slab.buffers.forEach(({ buffer, byteLength }, owner) => {
        const to = buffers[owner]?.buffer;
        if (to) encoder.copyBufferToBuffer(buffer, 0, to, first * this.pageBytes, byteLength);
      });
      first += slab.pages;
    }
    this.#device.gpu.queue.submit([encoder.finish()]);
    this.#replace({ pages, buffers }, offsets);
    return offsets;
  }

  #replace(joined: Slab, offsets: readonly number[]): void {
    const moved = (slab: number) => (page: number) => page + (offsets[slab] ?? 0);
    const free = this.#free.flatMap((pages, slab) => pages.map(moved(slab)));
    const taken = this.#taken.flatMap((pages, slab) => [...pages].map(moved(slab)));
    for (const { buffers } of this.slabs) for (const buffer of buffers) buffer.destroy();
    this.slabs.splice(0, Infinity, joined);
    this.#free.splice(0, Infinity, free);
    this.#taken.splice(0, Infinity, new Set(taken));
    this.#version++;
  }

  /** Frees the last slabs as far as none of their pages is in use. */
  shrink(): void {
    for (let last = this.slabs.at(-1); last && this.#taken.at(-1)?.size === 0; last = this.slabs.at(-1)) {
      for (const buffer of last.buffers) buffer.destroy();
      this.slabs.pop();
      this.#free.pop();
      this.#taken.pop();
      this.#version++;
    }
  }

  /** The slab with the most free pages; −1 while there is none. */
  roomiest(): number {
    const sizes = this.#free.map((free) => free.length);
    return sizes.indexOf(Math.max(...sizes));
  }

  /** Free pages of one slab. */
  freeIn(slab: number): number {
    return this.#free[slab]?.length ?? 0;
  }

  /** Takes one page of a slab that has a free one. */
  take(slab: number): number {
    const page = this.#free[slab]?.pop();
    invariant(page !== undefined, () => `slab ${slab} has no free page`);
    this.#taken[slab]?.add(page);
    return page;
  }

  /**
   * Gives a page back. It may be handed out at once: the queue runs what reads it before what writes it next.
   * Pages of a destroyed pool went with it.
   */
  give(slab: number, page: number): void {
    const taken = this.#taken[slab];
    if (!taken) return;
    invariant(taken.delete(page), () => `page ${page} of slab ${slab} was given back twice`);
    this.#free[slab]?.push(page);
  }

  /** Frees all slabs. */
  destroy(): void {
    for (const slab of this.slabs) for (const buffer of slab.buffers) buffer.destroy();
    this.slabs.length = 0;
    this.#free.length = 0;
    this.#taken.length = 0;
    this.#version++;
  }
}
