import type { Decoder } from '@ensample/mixattn-model';
import { DeviceLostError, type Device } from '@ensample/tensor';
import { syntheticDecoder, type DrawnFormat } from '../synthetic.ts';
import type { Report } from './report.ts';

/** What is to be measured. */
export interface GpuOptions {
  readonly shapes: readonly string[];
  readonly weights: readonly DrawnFormat[];
  /** Tokens of the shared prompt, the most interesting first. */
  readonly contexts: readonly number[];
  /** Samples of a decode step and rows of a product; default: those that the sections are about. */
  readonly n?: readonly number[] | undefined;
  /** Layers of a shape. */
  readonly layers: number;
  /** Outputs × columns. */
  readonly products: readonly (readonly [number, number])[];
  /** Prompt lengths of the section prefill. */
  readonly prefill: readonly number[];
  /** Vocabulary of the section sampling. */
  readonly vocab: number;
  /** Bytes that the section mixattention fills; default: an H100's. */
  readonly memory?: number | undefined;
  /** Timed repeats, at least. */
  readonly repeats: number;
  /** Milliseconds that a timed submission takes at least, so that its ends do not count. */
  readonly least: number;
}

/** Something to measure. */
export interface Job {
  readonly name: string;
  /** Smaller ones come first: what matters most must be there when the time is up. */
  readonly rank: number;
  run(bench: Bench): Promise<void>;
}

/** A part of the benchmark: the jobs that it consists of. */
export type Section = (options: GpuOptions) => readonly Job[];

/** What jobs work with. */
export interface Bench {
  readonly device: Device;
  readonly options: GpuOptions;
  readonly report: Report;
  readonly models: Models;
  /** Bytes per millisecond that can be read from the device's memory. */
  readonly bandwidth: number;
}

/** Random models, of which one is on the device at a time. */
export class Models {
  readonly #device: Device;
  readonly #layers: number;
  readonly #contextLength: number;
  #name = '';
  #decoder: Decoder | undefined;

  constructor(device: Device, { layers, contexts, prefill }: GpuOptions) {
    this.#device = device;
    this.#layers = layers;
    this.#contextLength = Math.max(...contexts, ...prefill) + 1024;
  }

  /** @throws OutOfMemoryError where it does not fit */
  async get(shape: string, weights: DrawnFormat): Promise<Decoder> {
    const name = `${shape} ${weights}`;
    if (this.#decoder && name === this.#name) return this.#decoder;
    this.release();
    const length = this.#contextLength;
    this.#decoder = await syntheticDecoder(this.#device, shape, this.#layers, length, weights);
    this.#name = name;
    return this.#decoder;
  }

  release(): void {
    this.#decoder?.destroy();
    this.#decoder = undefined;
  }
}

/** Runs the jobs of all sections, the most valuable first. */
export async function runJobs(bench: Bench, sections: readonly Section[]): Promise<void> {
  const jobs = sections.flatMap((section) => section(bench.options));
  try {
    for (const job of jobs.sort((a, b) => a.rank - b.rank)) {
      await attempt(bench, job.name, () => job.run(bench));
    }
  } finally {
    bench.models.release();
  }
}

/**
 * Runs a measurement. Where it fails (results are wrong, memory does not suffice) that is noted, and what comes after it
 * can go on; only a lost device ends it all.
 */
export async function attempt(
  { device, report }: Bench,
  name: string,
  run: () => Promise<void>,
): Promise<void> {
  try {
    await run();
  } catch (error) {
    const lost = device.lostError ?? (error instanceof DeviceLostError ? error : undefined);
    await report.skip(name, error instanceof Error ? error.message : String(error));
    if (lost) throw lost;
  }
}
