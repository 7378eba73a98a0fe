import type { Sequence, StepSequence } from '@ensample/kv-cache';
import { invariant, status, type Recording } from '@ensample/tensor';
import type { ResolvedOptions } from './options.ts';
import { Readback, type RowResult } from './readback.ts';
import { adjusts, type Sampler } from './sampler.ts';
import { bucketOf, type Stepper } from './stepper.ts';

/** A result of one sample in one step. */
export interface SampleResult extends RowResult {
  readonly index: number;
}

/** Means over the steps of a run. */
export interface DecodeCounters {
  steps: number;
  readBytes: number;
  readBytesUnshared: number;
  /** Bytes of KV pages in use, at most. */
  kvBytes: number;
}

interface Row {
  /** Sample index. */
  readonly index: number;
  readonly leaf: Sequence;
  /** Stopped, as far as the host knows; the row idles until the batch is compacted. */
  stopped: boolean;
}

interface InFlight {
  /** Sample of each row when the step was submitted. */
  readonly samples: readonly number[];
  readonly read: Promise<RowResult[]>;
}

/** Steps submitted before the oldest one's results are awaited. */
const depth = 2;

/**
 * Decodes all samples of a request in lockstep, one token a step, always one step ahead of what the host has read.
 * Stopped rows idle; when half of the rows have stopped, the rest move together.
 */
export class Decode {
  readonly counters: DecodeCounters = { steps: 0, readBytes: 0, readBytesUnshared: 0, kvBytes: 0 };
  readonly #stepper: Stepper;
  readonly #sampler: Sampler;
  readonly #options: ResolvedOptions;
  readonly #readback: Readback;
  readonly #maxSteps: number;
  readonly #inFlight: InFlight[] = [];
  /** In the batch's order. */
  #rows: Row[] = [];
  #bucket = 0;

  /** @param maxSteps tokens that the longest sample may have. */
  constructor(stepper: Stepper, sampler: Sampler, options: ResolvedOptions, maxSteps: number) {
    this.#stepper = stepper;
    this.#sampler = sampler;
    this.#options = options;
    this.#readback = new Readback(stepper.device, options.samples, depth + 1);
    this.#maxSteps = maxSteps;
  }

  /** Forks a leaf per sample off `prefix` and writes the rows: all begin with the prompt's last token. */
  begin(prefix: Sequence, lastToken: number): void {
    const { samples } = this.#options;
    const rows: Row[] = [];
    try {
      for (let index = 0; index < samples; index++) {
        rows.push({ index, leaf: prefix.fork(), stopped: false });
        rows.at(-1)?.leaf.reserve(1);
      }
    } catch (error) {
      for (const { leaf } of rows) leaf.release();
      throw error;
    }
    this.#rows = rows;
    this.#bucket = bucketOf(samples);
    const places = this.#stepper.place(
      stepOf(rows),
      rows.map(() => [lastToken]),
    );
    this.#rows = inOrder(rows, places);
  }

  /** Submits one step and the copying of its results. */
  async submit(): Promise<void> {
    const compacting = await this.#prepare();
    const { device } = this.#stepper;
    const adjusting = adjusts(this.#options);
    const rows = this.#bucket;
    const name = `decode ${rows} ${adjusting ? 'adjusted' : 'plain'} ${this.#sampler.version}`;
    const recording = await this.#stepper.recording(name, (pass) => {
      this.#sampler.step(pass, this.#stepper, rows, adjusting);
    });
    const encoder = device.gpu.createCommandEncoder();
    compacting?.encode(encoder);
    recording.encode(encoder);
    const read = this.#readback.copy(encoder, this.#sampler.results, this.#rows.length);
    device.gpu.queue.submit([encoder.finish()]);
    // Awaited later: a rejection must not count as unhandled until then.
    const results = read();
    results.catch(() => undefined);
    this.#inFlight.push({ samples: this.#rows.map(({ index }) => index), read: results });
    for (const { leaf, stopped } of this.#rows) if (!stopped) leaf.commit(1);
    this.#count();
  }

  /** Compacts where it pays, and reserves the pages that the next step writes. */
  async #prepare(): Promise<Recording | undefined> {
    const running = this.#rows.filter((row) => !row.stopped);
    const smaller = bucketOf(running.length) < this.#bucket;
    // A stopped row is in the plan until it is compacted away, so it too needs room for the token that it idles on.
    const kept = smaller ? running : this.#rows;
    let changed = smaller;
    for (const { leaf } of kept) changed = leaf.reserve(1) || changed;
    if (!changed) return undefined;
    if (!smaller) {
      this.#stepper.attention.update(stepOf(this.#rows));
      return undefined;
    }
    return this.#compact(running);
  }

  #compact(running: Row[]): Promise<Recording> {
    const before = this.#rows;
    for (const row of before) if (row.stopped) row.leaf.release();
    const places = this.#stepper.attention.update(stepOf(running));
    const moves = new Uint32Array(2 * (1 + running.length));
    moves[0] = running.length;
    running.forEach((row, i) => {
      const place = places[i];
      if (place) moves.set([before.indexOf(row), place.leaf], 2 * (1 + place.firstRow));
    });
    this.#rows = inOrder(running, places);
    this.#bucket = bucketOf(running.length);
    return this.#sampler.compact(this.#stepper, moves);
  }

  #count(): void {
    const { attention, cache } = this.#stepper;
    this.counters.steps++;
    this.counters.readBytes += attention.reads.planned;
    this.counters.readBytesUnshared += attention.reads.perSequence;
    this.counters.kvBytes = Math.max(this.counters.kvBytes, cache.memory.used);
  }

  /** Samples not known to have stopped. */
  get running(): number {
    return this.#rows.reduce((count, { stopped }) => count + (stopped ? 0 : 1), 0);
  }

  /** Whether another step may be submitted before the oldest is read. */
  get mayRunAhead(): boolean {
    return this.running > 0 && this.#inFlight.length < depth && this.counters.steps < this.#maxSteps;
  }

  /** Results of the oldest step that is in flight, of the samples that were running. */
  async read(): Promise<SampleResult[]> {
    const oldest = this.#inFlight.shift();
    invariant(oldest, () => 'no step in flight');
    const results = await oldest.read;
    const running = new Set(this.#rows.filter((row) => !row.stopped).map(({ index }) => index));
    return results.flatMap((result, row) => {
      const index = oldest.samples[row] ?? -1;
      return running.has(index) && result.status !== status.idle ? [{ ...result, index }] : [];
    });
  }

  /** Marks a sample as stopped; with `onDevice` the device is told too (it knows of stop tokens and limits itself). */
  stop(index: number, onDevice: boolean): void {
    const row = this.#rows.find((candidate) => candidate.index === index);
    if (!row) return;
    row.stopped = true;
    if (onDevice) this.#sampler.stop(index);
  }

  /** Waits for what is in flight and gives everything back. */
  async end(): Promise<void> {
    await Promise.allSettled(this.#inFlight.map(({ read }) => read));
    for (const { leaf } of this.#rows) leaf.release();
    this.#rows = [];
    this.#readback.destroy();
  }
}

/** A decode step has one query token a sample. */
function stepOf(rows: readonly Row[]): StepSequence[] {
  return rows.map(({ leaf }) => ({ sequence: leaf, rows: 1 }));
}

function inOrder(rows: readonly Row[], places: readonly { readonly firstRow: number }[]): Row[] {
  const ordered: Row[] = [];
  rows.forEach((row, i) => (ordered[places[i]?.firstRow ?? i] = row));
  return ordered;
}
