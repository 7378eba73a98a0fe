import { KvCache, type KvKind, type Sequence } from '@ensample/kv-cache';
import type { Decoder } from '@ensample/mixattn-model';
import { profile, type Device, type KernelTime, type Recording } from '@ensample/tensor';
import { median } from './results.ts';
import { compareReadings, recordStep, type Running } from './step.ts';

/** Options of {@link benchSamples}. */
export interface SamplesOptions {
  /** Tokens of the shared prompt. */
  readonly prompt: number;
  /** Tokens each sample has of its own. */
  readonly own: number;
  /** Sample counts. */
  readonly n: readonly number[];
  /** Keys in an attention task; default: the package's. */
  readonly chunk?: number | undefined;
  /** Timed steps for each figure; the median is reported. */
  readonly repeats: number;
  /** Receives the time per kernel of the last shared step. */
  readonly onProfile?: ((times: KernelTime[]) => void) | undefined;
}

/** One line of the table: a decode step of n samples, the prompt read once and read per sample. */
export interface SamplesRow {
  readonly n: number;
  readonly sharedMs: number;
  readonly perSampleMs: number;
  readonly ratio: number;
  /** KV bytes that attention reads in a step. */
  readonly sharedBytes: number;
  readonly perSampleBytes: number;
  /** Largest difference of logits between both, relative to the largest logit. */
  readonly difference: number;
}

/** Tokens of a prefill step. */
const chunkTokens = 64;

/**
 * Milliseconds of a decode step with the shared prompt read once for all samples, and read by each sample for itself:
 * same kernels, same storage, same tree, only the plan differs. Refuses to time results that disagree.
 */
export async function benchSamples(
  device: Device,
  decoder: Decoder,
  options: SamplesOptions,
): Promise<SamplesRow[]> {
  const cache = new KvCache(device, decoder.layout);
  const bench = new SamplesBench({ device, decoder, cache }, options);
  try {
    const prefix = await bench.prefill();
    const rows: SamplesRow[] = [];
    for (const n of options.n) rows.push(await bench.row(prefix, n));
    return rows;
  } finally {
    cache.destroy();
  }
}

class SamplesBench {
  readonly #running: Running;
  readonly #options: SamplesOptions;

  constructor(running: Running, options: SamplesOptions) {
    this.#running = running;
    this.#options = options;
  }

  async prefill(): Promise<Sequence> {
    const { prompt, own, n } = this.#options;
    const { device, cache } = this.#running;
    // At once: pools that grow on the way get several slabs, and attention is dispatched once a slab.
    const leaf = (kind: KvKind) => Math.max(...n) * cache.pagesFor(kind, own + 1, own + 1);
    cache.ensure(cache.kinds.map((kind) => cache.pagesFor(kind, prompt, chunkTokens) + leaf(kind)));
    const prefix = cache.sequence();
    for (let at = 0; at < prompt; at += chunkTokens) {
      const rows = Math.min(chunkTokens, prompt - at);
      prefix.reserve(rows);
      const step = await recordStep(this.#running, [prefix], { tokens: rows });
      step.recording.submit();
      await device.gpu.queue.onSubmittedWorkDone();
      step.destroy();
      prefix.commit(rows);
    }
    prefix.seal();
    return prefix;
  }

  /** n samples with tokens of their own. */
  async #leaves(prefix: Sequence, n: number): Promise<Sequence[]> {
    const { own } = this.#options;
    const leaves = Array.from({ length: n }, () => prefix.fork());
    for (const leaf of leaves) leaf.reserve(own + 1);
    if (own === 0) return leaves;
    const fill = await recordStep(this.#running, leaves, { tokens: own });
    fill.recording.submit();
    await this.#running.device.gpu.queue.onSubmittedWorkDone();
    fill.destroy();
    for (const leaf of leaves) leaf.commit(own);
    return leaves;
  }

  async row(prefix: Sequence, n: number): Promise<SamplesRow> {
    const { repeats, chunk } = this.#options;
    const leaves = await this.#leaves(prefix, n);
    const shared = await recordStep(this.#running, leaves, { chunk });
    const perSample = await recordStep(this.#running, leaves, { reading: 'per-sequence', chunk });
    try {
      const difference = await compareReadings(this.#running, shared, perSample, `n = ${n}`);
      const sides = {
        shared: { step: shared, times: [] as number[] },
        perSample: { step: perSample, times: [] as number[] },
      };
      for (let i = 0; i < repeats + 2; i++) {
        // In turns, and each first in half of the rounds, so that both see the same weather; two rounds warm up.
        const order = i % 2 === 0 ? [sides.shared, sides.perSample] : [sides.perSample, sides.shared];
        for (const side of order) {
          const ms = await this.#time(side.step.recording);
          if (i >= 2) side.times.push(ms);
        }
      }
      if (n === this.#options.n.at(-1)) this.#options.onProfile?.(await profile(shared.recording));
      const sharedMs = median(sides.shared.times);
      const perSampleMs = median(sides.perSample.times);
      const bytes = {
        sharedBytes: shared.attention.reads.planned,
        perSampleBytes: perSample.attention.reads.planned,
      };
      return { n, sharedMs, perSampleMs, ratio: perSampleMs / sharedMs, ...bytes, difference };
    } finally {
      shared.destroy();
      perSample.destroy();
      for (const leaf of leaves) leaf.release();
    }
  }

  /** Milliseconds of a step, from submission to completion; several steps a submission where they are short. */
  async #time(recording: Recording): Promise<number> {
    const { gpu, tier } = this.#running.device;
    const { queue } = gpu;
    const steps = tier.name === 'software' ? 1 : 20;
    const began = performance.now();
    const encoder = gpu.createCommandEncoder();
    for (let i = 0; i < steps; i++) recording.encode(encoder);
    queue.submit([encoder.finish()]);
    await queue.onSubmittedWorkDone();
    return (performance.now() - began) / steps;
  }
}
