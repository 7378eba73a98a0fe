import { Attention } from '@ensample/bifurcated-attn';
import {
  neededFrom,
  prefillRows,
  type KvCache,
  type RowPlace,
  type Sequence,
  type StepSequence,
} from '@ensample/kv-cache';
import { encodeSlots } from '@ensample/spec-decode';
import {
  createBatch,
  isSoftware,
  Recorder,
  type Batch,
  type Device,
  type GpuTensor,
  type Pass,
  type Recording,
} from '@ensample/tensor';
import { bucketOf } from './buckets.ts';
import type { Model, ModelActivations, StepResult } from './model.ts';

/** A running sample and where its own tokens are stored. */
export interface Running {
  readonly index: number;
  readonly leaf: Sequence;
}

/** Samples that run at once, at most. */
const mostSlots = 256;

/**
 * Runs steps of a model: owns the batch, the activations and the recordings. A recording belongs to a row capacity
 * and a version of the buffers; everything that changes between steps is read on the GPU.
 */
export class Stepper {
  readonly device: Device;
  readonly model: Model;
  readonly cache: KvCache;
  readonly attention: Attention;
  /** The running samples as kernels see them, in the order of the plan. */
  readonly slots: GpuTensor<'u32'>;
  readonly #memoryBytes: number;
  readonly #plans: Attention[];
  readonly #recordings = new Map<string, Promise<Recording>>();
  readonly #foreseen = new Set<string>();
  #version = -1;
  #batch: Batch;
  #activations: ModelActivations;
  #capacity: number;
  #generation = 0;
  #recorded = 0;

  /** @param memoryBytes most that the device may hold; see `EngineOptions`. Default: no limit. */
  constructor(model: Model, cache: KvCache, attention: Attention, memoryBytes: number = Infinity) {
    this.#memoryBytes = memoryBytes;
    this.device = cache.device;
    this.model = model;
    this.cache = cache;
    this.attention = attention;
    this.#plans = [attention];
    this.slots = this.device.tensor('u32', [1 + mostSlots, 4]);
    this.#capacity = 16;
    this.#batch = createBatch(this.device, this.#capacity);
    this.#activations = model.activations(this.#capacity);
  }

  /** The rows that steps work on. */
  get batch(): Batch {
    return this.#batch;
  }

  /** Changes when buffers were replaced, so that recordings made before must not be used. */
  get version(): number {
    return this.#generation + this.#plans.reduce((sum, { version }) => sum + version, 0);
  }

  /** Counts recordings: unchanged over a step when nothing had to be compiled for it. */
  get recorded(): number {
    return this.#recorded;
  }

  /** Another plan over the same cache, for steps of a different shape. The caller destroys it. */
  addPlan(): Attention {
    const plan = new Attention(this.cache, { heads: this.model.config.heads });
    this.#plans.push(plan);
    return plan;
  }

  /** Most rows of one prefill step. */
  get prefillRows(): number {
    return prefillRows(this.device.tier, this.model.config.heads * this.cache.layout.headDim);
  }

  /** Makes room for steps of `rows` rows. Call it before rows are written. */
  ensureRows(rows: number): void {
    if (rows <= this.#capacity) return;
    this.#batch.destroy();
    this.#activations.destroy();
    this.#capacity = bucketOf(rows);
    this.#batch = createBatch(this.device, this.#capacity);
    this.#activations = this.model.activations(this.#capacity);
    this.#generation++;
  }

  /**
   * Sees to it that `pages[kind]` pages are free, so that no buffer changes while steps run; where there is memory to do so, in
   * a single slab.
   * @throws OutOfMemoryError, with nothing kept of what did not fit.
   */
  async ensurePages(what: string, pages: readonly number[]): Promise<void> {
    try {
      await this.device.checkMemory(what, () => {
        this.cache.ensure(pages);
      });
    } catch (error) {
      this.cache.shrink();
      throw error;
    }
    await this.cache.join(this.#memoryBytes - this.device.memory.bytes);
  }

  /** Records the model for `rows` rows. */
  forward(pass: Pass, rows: number, result: StepResult, attention: Attention = this.attention): void {
    this.model.forward(pass, {
      ...{ batch: this.#batch, attention, activations: this.#activations, rows },
      ...result,
    });
  }

  /** The recording of that name, made by `record` unless there is one for the present buffers. */
  recording(name: string, record: (pass: Pass) => void): Promise<Recording> {
    if (this.version !== this.#version) {
      this.#recordings.clear();
      this.#version = this.version;
    }
    let recording = this.#recordings.get(name);
    if (!recording) {
      const recorder = new Recorder(this.device);
      record(recorder);
      this.#recorded++;
      recording = recorder.finish();
      this.#recordings.set(name, recording);
    }
    return recording;
  }

  /**
   * Compiles what `record` will run, once for each name, while steps go on: those that need it then need not wait. Not on
   * drivers that run on the CPU: there steps themselves would wait.
   */
  foresee(name: string, record: (pass: Pass) => void): void {
    const { device } = this;
    if (this.#foreseen.has(name)) return;
    this.#foreseen.add(name);
    if (isSoftware(device.info)) return;
    // A kernel that does not compile is the step's to report.
    record({ device, run: (kernel) => void device.pipeline(kernel).catch(() => undefined) });
  }

  /**
   * Plans steps in which each sample has `rows` rows, to be laid out on the device.
   * @returns the samples in the plan's order.
   */
  arrange<R extends Running>(running: readonly R[], rows: number): R[] {
    const places = this.attention.update(running.map(({ leaf }) => ({ sequence: leaf, rows })));
    const order = running
      .map((sample, i) => ({ sample, place: places[i] ?? { firstRow: i, leaf: 0 } }))
      .sort((a, b) => a.place.firstRow - b.place.firstRow);
    const slots = order.map(({ sample, place }) => ({ leaf: place.leaf, sequence: sample.index }));
    this.device.write(this.slots, encodeSlots(slots, rows));
    return order.map(({ sample }) => sample);
  }

  /** Plans a step and writes its rows: `tokens[i]` are the query tokens of sequence i, at positions after its length. */
  place(step: readonly StepSequence[], tokens: readonly (readonly number[])[]): readonly RowPlace[] {
    const places = this.attention.update(step);
    const rows = step.reduce((sum, { rows: count }) => sum + count, 0);
    const words = new Uint32Array(4 * (1 + rows));
    words[0] = rows;
    places.forEach((place, i) => {
      const start = step[i]?.sequence.length ?? 0;
      (tokens[i] ?? []).forEach((token, j) =>
        words.set([token, start + j, place.leaf, i], 4 * (1 + place.firstRow + j)),
      );
    });
    this.device.write(this.#batch, words);
    return places;
  }

  /**
   * Computes those keys and values of `tokens`, after what is in `sequence`, that are of use once all are there: see
   * {@link neededFrom}. A chunk is on its way while the one before is waited for.
   * @returns the first position after the old ones to which the sequence can be cut back: before it, something was left out.
   * @throws the signal's reason when aborted between chunks. The sequence then has tokens that must not be used.
   */
  async prefill(sequence: Sequence, tokens: readonly number[], signal?: AbortSignal): Promise<number> {
    const most = this.prefillRows;
    const { length: start } = sequence;
    const { pageTokens, layout } = this.cache;
    const end = start + tokens.length;
    const extension = { start, end, chunk: most, pageTokens };
    const needed = neededFrom(layout.layers, extension);
    this.ensureRows(Math.min(most, tokens.length));
    let before = Promise.resolve();
    try {
      for (let at = 0; at < tokens.length; at += most) {
        signal?.throwIfAborted();
        await this.#submitChunk(sequence, tokens.slice(at, at + most), needed, signal);
        await before;
        before = this.#done();
        before.catch(() => undefined); // it is waited for when the next chunk is on its way
      }
    } finally {
      await before;
    }
    return needed.some((from) => from > start && from < end) ? end - pageTokens + 1 : start + 1;
  }

  async #submitChunk(
    sequence: Sequence,
    chunk: readonly number[],
    needed: readonly number[],
    signal?: AbortSignal,
  ): Promise<void> {
    const lastOwner = needed.findLastIndex((from) => from <= sequence.length);
    sequence.reserve(chunk.length);
    if (lastOwner >= 0) this.place([{ sequence, rows: chunk.length }], [chunk]);
    sequence.commit(chunk.length); // before anything is waited for: a fork made meanwhile shares the leaf
    if (lastOwner < 0) return;
    const rows = bucketOf(chunk.length);
    const name = `prefill ${rows} up to ${lastOwner}`;
    const recording = await this.recording(name, (pass) => this.forward(pass, rows, { lastOwner }));
    signal?.throwIfAborted();
    recording.submit();
  }

  /** Resolves when all that was submitted is done. */
  async #done(): Promise<void> {
    await this.device.gpu.queue.onSubmittedWorkDone();
    if (this.device.lostError) throw this.device.lostError;
  }

  /** Frees batch and activations. */
  destroy(): void {
    this.#batch.destroy();
    this.#activations.destroy();
    this.slots.destroy();
    this.#recordings.clear();
  }
}
