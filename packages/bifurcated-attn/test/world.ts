import {
  createBatch,
  Recorder,
  type Batch,
  type Device,
  type GpuTensor,
  type Operand,
  type Recording,
} from '@ensample/tensor';
import {
  attentionReference,
  expectClose,
  readValues,
  scope,
  seeded,
  tolerance,
  type Random,
  type Scope,
} from '@ensample/testing';
import { expect } from 'vitest';
import { KvCache, type KvCacheOptions, type LayerKv, type Sequence } from '@ensample/kv-cache';
import { Attention, type AttendVariant, type AttentionOptions } from '../src/index.ts';

/** Heads of a model. */
export interface HeadShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** All positions; a window of 16; a layer that reads the window's keys and values with its own queries. */
const mixed: readonly LayerKv[] = [
  { kind: 'full', kvSource: 0 },
  { kind: 'sliding', window: 16, kvSource: 1 },
  { kind: 'sliding', window: 16, kvSource: 1 },
];

/** One layer with a window. */
export const windowed: readonly LayerKv[] = [{ kind: 'sliding', window: 16, kvSource: 0 }];

/** A sequence, and the keys and values of its tokens: `[layer][position]`, each `[2, kvHeads, headDim]`. */
export interface Entry {
  readonly sequence: Sequence;
  tokens: Float32Array[][];
}

/** Sequences that take part in a step, with their query tokens. */
export type Step = readonly (readonly [Entry, number])[];

/** Rows that a recording is made for, by default. */
const manyRows = 48;
/** Longest sequence of a test. */
const positions = 2048;

/** Options of a {@link World}. */
export interface WorldOptions extends HeadShape {
  /** Default: all positions, a window of 16, and one that reuses the window's. */
  readonly layers?: readonly LayerKv[];
  readonly cache?: KvCacheOptions;
  readonly attention?: Omit<AttentionOptions, 'heads' | 'variant'>;
  /** Default: the device's. */
  readonly variant?: (cache: KvCache) => AttendVariant | undefined;
  /** Element type of results. Default f32. */
  readonly results?: Operand;
  /** Pages of each kind that are made ready. Default 120. */
  readonly pages?: number;
  /** Rows that steps are recorded for. Default 48. */
  readonly rows?: number;
}

/**
 * Attention over a cache with random queries, keys and values, beside the plain formula over lists of tokens. All
 * memory is NaN at first, so that a result that used anything never written shows.
 */
export class World {
  readonly cache: KvCache;
  readonly attention: Attention;
  readonly random: Random = seeded(1);
  readonly layers: readonly LayerKv[];
  readonly #shape: HeadShape;
  readonly #capacity: number;
  readonly #device: Device;
  readonly #scope: Scope = scope();
  readonly #batch: Batch;
  /** Turns nothing: positions are the business of `ropeAppend`'s own tests. */
  readonly #angles: GpuTensor<'f32'>;
  readonly #x: readonly GpuTensor<'f32'>[];
  readonly #y: readonly GpuTensor<Operand>[];
  #recording: { version: number; recording: Recording } | undefined;

  constructor(device: Device, options: WorldOptions) {
    const { cache, layers = mixed, pages = 120, results = 'f32', rows: capacity = manyRows } = options;
    const { heads, kvHeads, headDim } = options;
    this.layers = layers;
    this.#shape = options;
    this.#capacity = capacity;
    this.#device = device;
    this.cache = new KvCache(
      device,
      { layers, kvHeads, headDim },
      { pageTokens: 4, draftLimit: 4, ...cache },
    );
    this.cache.ensure(this.cache.kinds.map(() => pages));
    this.#poison();
    const variant = options.variant?.(this.cache);
    const attention = { ...options.attention, ...(variant && { variant }) };
    this.attention = new Attention(this.cache, { heads, workgroups: 3, ...attention });
    this.#batch = this.#scope.own(createBatch(device, capacity));
    const still = Float32Array.from({ length: positions * headDim }, (_, i) => 1 - (i % 2));
    this.#angles = this.#scope.own(device.upload('f32', [positions, headDim], still));
    const rows = <D extends Operand>(type: D, width: number) =>
      layers.map(() => this.#scope.own(device.tensor(type, [capacity, width])));
    this.#x = rows('f32', this.stride);
    this.#y = rows(results, heads * headDim);
  }

  get stride(): number {
    return (this.#shape.heads + 2 * this.#shape.kvHeads) * this.#shape.headDim;
  }

  #poison(): void {
    for (const buffer of this.cache.pools.flatMap((pool) => pool.slabs.flatMap((slab) => slab.buffers))) {
      const values = buffer.byteLength / (buffer.dtype === 'f16' ? 2 : 4);
      const data =
        buffer.dtype === 'f16' ? new Uint16Array(values).fill(0x7e00) : new Float32Array(values).fill(NaN);
      this.#device.write(buffer, data);
    }
  }

  open(): Entry {
    return { sequence: this.cache.sequence(), tokens: this.layers.map(() => []) };
  }

  fork({ sequence, tokens }: Entry, at: number = sequence.length): Entry {
    return { sequence: sequence.fork(at), tokens: tokens.map((layer) => layer.slice(0, at)) };
  }

  truncate({ sequence, tokens }: Entry, length: number): void {
    sequence.truncate(length);
    for (const layer of tokens) layer.length = length;
  }

  /** `[rows, stride]`, between −3 and 3. */
  randomRows(rows: number): Float32Array<ArrayBuffer> {
    return this.random.normals(rows * this.stride).map((value) => Math.max(-3, Math.min(3, value)));
  }

  /**
   * One step: keys and values are appended, every layer attends, each result is compared with the formula. The
   * tokens are committed.
   * @param given rows of each layer's x, in the order of `step`. Default: random.
   * @returns what each layer computed, in the order of `step`.
   */
  async step(step: Step, given?: readonly Float32Array[]): Promise<Float32Array[]> {
    for (const [{ sequence }, rows] of step) sequence.reserve(rows);
    const total = step.reduce((sum, [, rows]) => sum + rows, 0);
    const xs = given ?? this.layers.map(() => this.randomRows(total));
    const order = this.#upload(step, xs);
    await this.run();
    const ys = await Promise.all(this.#y.map((y) => readValues(this.#device, y)));
    const width = this.#shape.heads * this.#shape.headDim;
    const results = ys.map((y) =>
      Float32Array.from(order.flatMap((row) => [...y.subarray(row * width, (row + 1) * width)])),
    );
    this.#remember(step, xs);
    results.forEach((result, layer) => this.#compare(step, layer, xs[layer]!, result));
    return results;
  }

  /** Plans and uploads a step. @returns for each row in the order of `step`, the row of the batch it has. */
  #upload(step: Step, xs: readonly Float32Array[]): number[] {
    const places = this.attention.update(step.map(([{ sequence }, rows]) => ({ sequence, rows })));
    const order = places.flatMap(({ firstRow, rows }) =>
      Array.from({ length: rows }, (_, r) => firstRow + r),
    );
    const batch = new Uint32Array(4 * (1 + order.length));
    batch[0] = order.length;
    let row = 0;
    step.forEach(([{ sequence }, rows], i) => {
      for (let r = 0; r < rows; r++) {
        batch.set([0, sequence.length + r, places[i]!.leaf, i], 4 * (1 + order[row++]!));
      }
    });
    this.#device.write(this.#batch, batch);
    xs.forEach((x, layer) => {
      const placed = new Float32Array(x.length);
      order.forEach((to, from) =>
        placed.set(x.subarray(from * this.stride, (from + 1) * this.stride), to * this.stride),
      );
      this.#device.write(this.#x[layer]!, placed);
    });
    return order;
  }

  /** Appends and attends in all layers, from one recording as long as buffers stay. */
  async run(): Promise<void> {
    const { version } = this.attention;
    if (this.#recording?.version !== version) {
      this.#recording = { version, recording: await this.#record() };
    }
    this.#recording.recording.submit();
  }

  #record(): Promise<Recording> {
    const recorder = new Recorder(this.#device);
    const { stride } = this;
    const batch = this.#batch;
    const angles = this.#angles;
    this.layers.forEach(({ kvSource }, layer) => {
      const x = this.#x[layer]!;
      if (kvSource === layer) {
        this.attention.ropeAppend(recorder, layer, { batch, angles, x }, { rows: this.#capacity });
      }
      this.attention.run(
        recorder,
        layer,
        { batch, q: x, y: this.#y[layer]! },
        { stride, rows: this.#capacity },
      );
    });
    return recorder.finish();
  }

  /** Adds the step's keys and values to the lists, and commits. */
  #remember(step: Step, xs: readonly Float32Array[]): void {
    const keysAt = this.#shape.heads * this.#shape.headDim;
    this.layers.forEach(({ kvSource }, layer) => {
      let row = 0;
      for (const [{ tokens }, rows] of step) {
        for (let r = 0; r < rows; r++, row++) {
          tokens[layer]!.push(xs[kvSource]!.slice(row * this.stride + keysAt, (row + 1) * this.stride));
        }
      }
    });
    for (const [{ sequence }, rows] of step) sequence.commit(rows);
  }

  #compare(step: Step, layer: number, x: Float32Array, result: Float32Array): void {
    const { heads, headDim } = this.#shape;
    const width = heads * headDim;
    const { window } = this.layers[layer]!;
    let row = 0;
    for (const [{ sequence, tokens }, rows] of step) {
      const stored = tokens[layer]!;
      const half = stored[0]!.length / 2;
      const q = Float32Array.from({ length: rows * width }, (_, i) => {
        return x[(row + Math.floor(i / width)) * this.stride + (i % width)]!;
      });
      const expected = attentionReference({
        q,
        k: Float32Array.from(stored.flatMap((token) => [...token.subarray(0, half)])),
        v: Float32Array.from(stored.flatMap((token) => [...token.subarray(half)])),
        headDim,
        positions: Array.from({ length: rows }, (_, r) => sequence.length - rows + r),
        keyPositions: stored.map((_, t) => t),
        ...(window !== undefined && { window }),
      });
      expect(stored.length).toBe(sequence.length);
      const rounds = this.cache.dtype === 'f16' || this.#y[layer]!.dtype === 'f16';
      const allowed = rounds ? tolerance.f16 : tolerance.f32;
      expectClose(result.subarray(row * width, (row + rows) * width), expected, allowed);
      row += rows;
    }
  }

  /** All that a step may write: keys, values and results. NaN as a string, so that it equals itself. */
  async memory(): Promise<string[]> {
    const slabs = this.cache.pools.flatMap((pool) => pool.slabs.flatMap((slab) => slab.buffers));
    const all = await Promise.all([...slabs, ...this.#y].map((tensor) => this.#device.read(tensor)));
    return all.map((values) => values.join(' '));
  }

  /** Says that the step is over: the batch has no rows. */
  finish(): void {
    this.#device.write(this.#batch, new Uint32Array(1));
  }

  destroy(): void {
    this.attention.destroy();
    this.cache.destroy();
    this.#scope.destroy();
  }
}
