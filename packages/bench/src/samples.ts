import { Attention, type Tiling } from '@ensample/bifurcated-attn';
import { KvCache, type KvKind, type Sequence } from '@ensample/kv-cache';
import type { Decoder } from '@ensample/mixattn-model';
import {
  createBatch,
  profile,
  Recorder,
  type Batch,
  type Device,
  type GpuTensor,
  type KernelTime,
  type Recording,
} from '@ensample/tensor';
import { median } from './results.ts';

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

/** Logits of both ways of reading may differ by this much: they add up in another order. */
const agreement = { f32: 1e-4, f16: 2e-2 };

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
  const bench = new SamplesBench(device, decoder, cache, options);
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
  readonly #device: Device;
  readonly #decoder: Decoder;
  readonly #cache: KvCache;
  readonly #options: SamplesOptions;

  constructor(device: Device, decoder: Decoder, cache: KvCache, options: SamplesOptions) {
    this.#device = device;
    this.#decoder = decoder;
    this.#cache = cache;
    this.#options = options;
  }

  /** Any tokens do: what is timed does not depend on them. */
  #token(position: number): number {
    return 5 + ((position * 2654435761) % (this.#decoder.config.vocabSize - 5));
  }

  async prefill(): Promise<Sequence> {
    const { prompt, own, n } = this.#options;
    const cache = this.#cache;
    // At once: pools that grow on the way get several slabs, and attention is dispatched once a slab.
    const leaf = (kind: KvKind) => Math.max(...n) * cache.pagesFor(kind, own + 1, own + 1);
    cache.ensure(cache.kinds.map((kind) => cache.pagesFor(kind, prompt, chunkTokens) + leaf(kind)));
    const prefix = cache.sequence();
    for (let at = 0; at < prompt; at += chunkTokens) {
      const rows = Math.min(chunkTokens, prompt - at);
      prefix.reserve(rows);
      const step = await this.#record([prefix], rows, 'shared');
      step.recording.submit();
      await this.#device.gpu.queue.onSubmittedWorkDone();
      step.destroy();
      prefix.commit(rows);
    }
    prefix.seal();
    return prefix;
  }

  async row(prefix: Sequence, n: number): Promise<SamplesRow> {
    const { own, repeats } = this.#options;
    const leaves = Array.from({ length: n }, () => prefix.fork());
    for (const leaf of leaves) leaf.reserve(own + 1);
    if (own > 0) {
      const fill = await this.#record(leaves, own, 'shared');
      fill.recording.submit();
      await this.#device.gpu.queue.onSubmittedWorkDone();
      fill.destroy();
      for (const leaf of leaves) leaf.commit(own);
    }
    const shared = await this.#record(leaves, 1, 'shared');
    const perSample = await this.#record(leaves, 1, 'per-sequence');
    try {
      const difference = await this.#compare(shared, perSample, n);
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

  async #compare(shared: Step, perSample: Step, n: number): Promise<number> {
    const results: Float32Array[] = [];
    for (const step of [shared, perSample]) {
      step.recording.submit();
      results.push(await this.#device.read(step.logits));
    }
    const [a = new Float32Array(), b = new Float32Array()] = results;
    const scale = a.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const worst = a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? NaN))), 0) / scale;
    const allowed = agreement[this.#cache.dtype];
    if (!(worst <= allowed)) {
      throw new Error(
        `n = ${n}: shared and per-sample reading differ by ${worst} (allowed: ${allowed}); nothing was timed`,
      );
    }
    return worst;
  }

  /** Milliseconds of a step, from submission to completion; several steps a submission where they are short. */
  async #time(recording: Recording): Promise<number> {
    const { queue } = this.#device.gpu;
    const steps = this.#device.tier.name === 'software' ? 1 : 20;
    const began = performance.now();
    const encoder = this.#device.gpu.createCommandEncoder();
    for (let i = 0; i < steps; i++) recording.encode(encoder);
    queue.submit([encoder.finish()]);
    await queue.onSubmittedWorkDone();
    return (performance.now() - began) / steps;
  }

  async #record(sequences: readonly Sequence[], tokens: number, reading: Tiling['reading']): Promise<Step> {
    const decoder = this.#decoder;
    const rows = sequences.length * tokens;
    const { chunk } = this.#options;
    const options = { heads: decoder.config.heads, reading, ...(chunk ? { chunk } : {}) };
    const attention = new Attention(this.#cache, options);
    const places = attention.update(sequences.map((sequence) => ({ sequence, rows: tokens })));
    const batch: Batch = createBatch(this.#device, rows);
    const words = new Uint32Array(4 * (1 + rows));
    words[0] = rows;
    places.forEach(({ firstRow, leaf }, i) => {
      const start = sequences[i]?.length ?? 0;
      for (let j = 0; j < tokens; j++) {
        // Samples differ in their tokens from the first on.
        words.set([this.#token(start + j + 7919 * i), start + j, leaf, i], 4 * (1 + firstRow + j));
      }
    });
    this.#device.write(batch, words);
    const logits = this.#device.tensor('f32', [rows, decoder.config.vocabSize]);
    const activations = decoder.activations(rows);
    const recorder = new Recorder(this.#device);
    decoder.forward(recorder, { batch, attention, activations, rows, logits });
    const recording = await recorder.finish();
    const destroy = () => [attention, batch, logits, activations].forEach((owned) => owned.destroy());
    return { recording, attention, logits, destroy };
  }
}

interface Step {
  readonly recording: Recording;
  readonly attention: Attention;
  readonly logits: GpuTensor<'f32'>;
  destroy(): void;
}
