import type { Attention } from '@ensample/bifurcated-attn';
import type { KvCache, RowPlace, Sequence, StepSequence } from '@ensample/kv-cache';
import {
  createBatch,
  Recorder,
  type Batch,
  type Device,
  type GpuTensor,
  type Pass,
  type Recording,
} from '@ensample/tensor';
import type { Model, ModelActivations } from './model.ts';

/** Rows of the longest prefill step: enough to fill the device, few enough to stay responsive. */
const prefillRows = { thread: 64, tile: 256 } as const;

/** Row capacities are powers of two, so that few recordings serve all steps. */
export function bucketOf(rows: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, rows)));
}

/**
 * Runs steps of a model: owns the batch, the activations and the recordings. A recording belongs to a row capacity
 * and a version of the buffers; everything that changes between steps is read on the GPU.
 */
export class Stepper {
  readonly device: Device;
  readonly model: Model;
  readonly cache: KvCache;
  readonly attention: Attention;
  readonly #recordings = new Map<string, Promise<Recording>>();
  #version = -1;
  #batch: Batch;
  #activations: ModelActivations;
  #capacity: number;
  #generation = 0;

  constructor(model: Model, cache: KvCache, attention: Attention) {
    this.device = cache.device;
    this.model = model;
    this.cache = cache;
    this.attention = attention;
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
    return this.#generation + this.attention.version;
  }

  /** Most rows of one prefill step. */
  get prefillRows(): number {
    return prefillRows[this.device.tier.attention];
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
   * Sees to it that `pages[kind]` pages are free, so that no buffer changes while steps run.
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
  }

  /** Records the model for `rows` rows; `after` adds what follows the logits. */
  forward(pass: Pass, rows: number, logits?: GpuTensor<'f32'>): void {
    const { attention } = this;
    const step = { batch: this.#batch, attention, activations: this.#activations, rows };
    this.model.forward(pass, logits ? { ...step, logits } : step);
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
      recording = recorder.finish();
      this.#recordings.set(name, recording);
    }
    return recording;
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
   * Computes keys and values of `tokens` after those in `sequence`, chunk by chunk.
   * @throws the signal's reason when aborted between chunks; what was computed until then stays in the sequence.
   */
  async prefill(sequence: Sequence, tokens: readonly number[], signal?: AbortSignal): Promise<void> {
    const most = this.prefillRows;
    this.ensureRows(Math.min(most, tokens.length));
    for (let at = 0; at < tokens.length; at += most) {
      signal?.throwIfAborted();
      const chunk = tokens.slice(at, at + most);
      sequence.reserve(chunk.length);
      this.place([{ sequence, rows: chunk.length }], [chunk]);
      const rows = bucketOf(chunk.length);
      const recording = await this.recording(`prefill ${rows}`, (pass) => this.forward(pass, rows));
      recording.submit();
      sequence.commit(chunk.length);
      await this.device.gpu.queue.onSubmittedWorkDone();
      if (this.device.lostError) throw this.device.lostError;
    }
  }

  /** Frees batch and activations. */
  destroy(): void {
    this.#batch.destroy();
    this.#activations.destroy();
    this.#recordings.clear();
  }
}
