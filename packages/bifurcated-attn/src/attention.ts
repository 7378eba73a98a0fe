import {
  appendEpilogue,
  kvPrelude,
  ropeAppend,
  segmentChunk,
  segmentConstants,
  type KvCache,
  type RowPlace,
  type StepSequence,
} from '@ensample/kv-cache';
import {
  InvalidOptionError,
  isSoftware,
  kernel,
  mergePreludes,
  narrowChunk,
  operandPrelude,
  type Batch,
  type Device,
  type Epilogue,
  type GpuTensor,
  type Grid,
  type Kernel,
  type Operand,
  type Pass,
} from '@ensample/tensor';
import { attendHead, kvRead, kvReadWrite, mergeBody } from './attend.wgsl.ts';
import { attendVariant, kernelFor, type AttendKernel, type AttendVariant } from './kernels.ts';
import { planStep, type ReadBytes, type StepPlan, type Tiling } from './plan.ts';

/** Options of {@link Attention}. */
export interface AttentionOptions {
  /** Query heads; a multiple of the cache's key/value heads. */
  readonly heads: number;
  /** Who reads a shared segment; see {@link Tiling}. Default `'shared'`. */
  readonly reading?: Tiling['reading'];
  /** Keys in a task, a multiple of the cache's `pageTokens`. Default 128; longer where partial results grow too large. */
  readonly chunk?: number;
  /**
   * Workgroups that share a layer's tasks, per key/value head. Default: as many as a large GPU can have busy (2048 in
   * all), or one per row on CPU drivers.
   */
  readonly workgroups?: number;
  /** A way to attend that suits the cache. Default: what was measured best on its device. To measure others, see {@link matrixVariant}. */
  readonly variant?: AttendVariant;
}

/** Tensors of one layer's attention. */
export interface AttentionTensors {
  readonly batch: Batch;
  /** `[rows, stride]`: rotated queries `[heads, headDim]` first. */
  readonly q: GpuTensor<'f32'>;
  /** `[rows, heads, headDim]` */
  readonly y: GpuTensor<Operand>;
}

/** Partial results take no more than this, except where each row has more stretches above it than fit. */
const partialBytes = 32 * 2 ** 20;
/** Keys in a task: few enough that a short prompt still fills a device, for one sample too (docs/decisions). */
const chunkTokens = 128;
const planGrowth = 4096;

/**
 * Attention of a step's rows over the segment tree. {@link update} makes the plan once a step, all layers use it:
 * each segment is attended once for all rows below it, and partial results are merged by log-sum-exp. With one
 * shared prompt and n samples this is bifurcated attention; nothing in the code asks for that case.
 */
export class Attention {
  readonly cache: KvCache;
  readonly heads: number;
  readonly #device: Device;
  readonly #variant: AttendVariant;
  readonly #tiling: Tiling;
  readonly #workgroups: number | undefined;
  /** Rows of partial results within {@link partialBytes}. */
  readonly #mostSlots: number;
  #plan: GpuTensor<'u32'>;
  #words: Uint32Array<ArrayBuffer> = new Uint32Array(0);
  #partial: GpuTensor<'f32'>;
  #logSums: GpuTensor<'f32'>;
  #slots: number;
  #version = 0;
  #reads: ReadBytes = { planned: 0, perSequence: 0 };
  /** Whether no task of the plan has more than few query vectors: then there is a kernel that takes less of a processor. */
  #onlyFew = false;

  /** @throws InvalidOptionError for heads that cannot share the key/value heads, a head size that is not supported, a wrong chunk. */
  constructor(cache: KvCache, options: AttentionOptions) {
    const { heads, reading = 'shared', workgroups } = options;
    const chunk = options.chunk ?? Math.max(chunkTokens, cache.pageTokens);
    const { headDim } = cache.layout;
    checkOptions(cache, heads, chunk, workgroups);
    this.cache = cache;
    this.heads = heads;
    this.#device = cache.device;
    this.#variant = options.variant ?? attendVariant(cache);
    const { tiles, few } = this.#variant;
    const cut = options.chunk === undefined ? tiles : tiles.map(({ vectors }) => ({ vectors }));
    this.#tiling = { chunk, reading, tiles: cut, few };
    this.#workgroups = workgroups;
    this.#mostSlots = Math.floor(partialBytes / (4 * heads * (headDim + 1)));
    this.#plan = this.#device.tensor('u32', [planGrowth]);
    this.#slots = 64;
    [this.#partial, this.#logSums] = this.#makePartials();
  }

  /** The plan as kernels read it; {@link update} may replace it, see {@link version}. */
  get plan(): GpuTensor<'u32'> {
    return this.#plan;
  }

  /** Changes whenever a buffer was replaced, or another kernel suits the plan: what was recorded before must be recorded again. */
  get version(): number {
    return this.#version + this.cache.version;
  }

  /** KV bytes that a step of the present plan reads. */
  get reads(): ReadBytes {
    return this.#reads;
  }

  /**
   * Plans a step and uploads what changed (at most one write).
   * @returns for each sequence, in the order given, its rows and the leaf index that its batch entries need.
   */
  update(step: readonly StepSequence[]): readonly RowPlace[] {
    const plan = this.#fitting(this.#tiling, step);
    this.#reads = plan.reads;
    this.#choose(plan);
    this.#grow(plan);
    this.#upload(plan.words);
    return plan.places;
  }

  get #share(): number {
    return this.heads / this.cache.layout.kvHeads;
  }

  /** The plan, with longer chunks where partial results would take too much memory. */
  #fitting(tiling: Tiling, step: readonly StepSequence[]): StepPlan {
    const plan = planStep(this.cache, this.#share, tiling, step);
    if (plan.slots <= this.#mostSlots || tiling.chunk >= 2 ** 20) return plan;
    return this.#fitting({ ...tiling, chunk: 2 * tiling.chunk }, step);
  }

  #choose({ widest, rows }: StepPlan): void {
    const { few } = this.#variant;
    if (rows * this.#share <= few) return; // so few that it makes no difference
    const onlyFew = widest <= few;
    if (onlyFew !== this.#onlyFew) this.#version++;
    this.#onlyFew = onlyFew;
  }

  #grow({ words, slots }: StepPlan): void {
    if (words.byteLength > this.#plan.byteLength) {
      this.#plan.destroy();
      this.#plan = this.#device.tensor('u32', [Math.ceil((2 * words.length) / planGrowth) * planGrowth]);
      this.#words = new Uint32Array(0);
      this.#version++;
    }
    if (slots > this.#slots) {
      this.#partial.destroy();
      this.#logSums.destroy();
      this.#slots = Math.max(slots, Math.min(this.#mostSlots, 2 ** Math.ceil(Math.log2(slots))));
      [this.#partial, this.#logSums] = this.#makePartials();
      this.#version++;
    }
  }

  #makePartials(): [GpuTensor<'f32'>, GpuTensor<'f32'>] {
    const { headDim } = this.cache.layout;
    const shape = [this.#slots, this.heads];
    return [this.#device.tensor('f32', [...shape, headDim]), this.#device.tensor('f32', shape)];
  }

  #upload(words: Uint32Array<ArrayBuffer>): void {
    let first = 0;
    while (first < words.length && words[first] === this.#words[first]) first++;
    let end = words.length;
    while (end > first && words[end - 1] === this.#words[end - 1]) end--;
    if (end > first) this.#device.write(this.#plan, words.subarray(first, end), 4 * first);
    this.#words = words;
  }

  /** Records the turning and storing of a step's rows for an owner layer; see `ropeAppend` of `@ensample/kv-cache`. */
  ropeAppend(
    pass: Pass,
    layer: number,
    tensors: { batch: Batch; angles: GpuTensor<'f32'>; x: GpuTensor<'f32'> },
    { rows }: { rows: number },
  ): void {
    ropeAppend(pass, this.cache, layer, { ...tensors, plan: this.#plan }, { heads: this.heads, rows });
  }

  /** The same as a part of the product that computes queries, keys and values; undefined where it cannot be, see `appendEpilogue` there. */
  appendEpilogue(layer: number, angles: GpuTensor<'f32'>): Epilogue | undefined {
    return appendEpilogue(this.cache, layer, { plan: this.#plan, angles }, this.heads);
  }

  /** Records attention of one layer: partial results per slab, then the merge. */
  run(
    pass: Pass,
    layer: number,
    { batch, q, y }: AttentionTensors,
    { stride, rows }: { stride: number; rows: number },
  ): void {
    const { headDim } = this.cache.layout;
    const plan = this.#plan;
    const partial = this.#partial;
    const log_sums = this.#logSums;
    const vectors = rows * this.#share;
    const attend = kernelFor(this.#variant, this.#onlyFew ? Math.min(vectors, this.#variant.few) : vectors);
    for (let slab = 0; slab < this.cache.slabs; slab++) {
      const kv = this.cache.buffer(layer, slab);
      if (!kv) continue;
      const code = this.#attendKernel(attend, { layer, slab, stride });
      pass.run(code, { batch, plan, q, kv, partial, log_sums }, this.#grid(rows));
    }
    const grid = [Math.ceil((this.heads * headDim) / 4 / 64), rows] as const;
    pass.run(this.#mergeKernel(layer, y.dtype), { batch, plan, partial, log_sums, y }, grid);
  }

  /**
   * Workgroups stride over the tasks, so that a recording serves any plan. On GPUs heads come first, so that those with
   * nothing to do are last; CPU drivers, which give each thread a share in order, have them in between.
   */
  #grid(rows: number): Grid {
    const { kvHeads } = this.cache.layout;
    const software = isSoftware(this.#device.info);
    const groups = this.#workgroups ?? Math.max(16, software ? rows : Math.ceil(2048 / kvHeads));
    return software ? [groups, kvHeads] : [kvHeads, groups];
  }

  #attendKernel(
    { body, unit, access, extensions, constants: own }: AttendKernel,
    { layer, slab, stride }: { layer: number; slab: number; stride: number },
  ): Kernel {
    const kind = this.cache.places[layer]?.kind ?? 0;
    const constants = {
      ...segmentConstants(this.cache, kind, slab),
      HEAD_AXIS: isSoftware(this.#device.info) ? 1 : 0,
      HEADS: this.heads,
      Q_STRIDE: stride,
      WINDOW: this.cache.kinds[kind]?.window ?? 0,
      SCALE: `${(1 / Math.sqrt(this.cache.layout.headDim)).toExponential()}f`,
      ...own,
    };
    const prelude = mergePreludes(kvPrelude(this.cache), extensions, {
      aliases: { KvUnit: unit },
      constants,
    });
    return kernel('attend', prelude, segmentChunk, attendHead, access ? kvReadWrite : kvRead, body);
  }

  #mergeKernel(layer: number, type: Operand): Kernel {
    const kind = this.cache.places[layer]?.kind ?? 0;
    const constants = {
      ...segmentConstants(this.cache, kind, 0),
      HEADS: this.heads,
      AT_ONCE: isSoftware(this.#device.info) ? 1 : 8,
    };
    const prelude = { ...operandPrelude({ Y: type }), constants };
    return kernel('merge', prelude, segmentChunk, narrowChunk[type], mergeBody);
  }

  /** Frees the plan and the partial results (the cache is its owner's). */
  destroy(): void {
    for (const tensor of [this.#plan, this.#partial, this.#logSums]) tensor.destroy();
  }
}

function checkOptions(cache: KvCache, heads: number, chunk: number, workgroups?: number): void {
  const { kvHeads, headDim } = cache.layout;
  if (!Number.isInteger(heads / kvHeads) || heads < kvHeads) {
    throw new InvalidOptionError(`${heads} query heads cannot share ${kvHeads} key/value heads evenly`);
  }
  if (headDim % 4 !== 0 || headDim < 16 || headDim > 256) {
    throw new InvalidOptionError(`head size ${headDim} must be a multiple of 4 from 16 to 256`);
  }
  if (!Number.isInteger(chunk / cache.pageTokens) || chunk < cache.pageTokens) {
    throw new InvalidOptionError(
      `chunk is ${chunk}: it must be a multiple of pageTokens, which is ${cache.pageTokens}`,
    );
  }
  if (workgroups !== undefined && !(Number.isInteger(workgroups) && workgroups >= 1 && workgroups < 65536)) {
    throw new InvalidOptionError(`workgroups is ${workgroups}: it must be an integer from 1 to 65535`);
  }
}
