import { Attention, tileVariant, type AttendVariant } from '@ensample/bifurcated-attn';
import type { KvCache, Sequence } from '@ensample/kv-cache';
import { createBatch, Recorder, type GpuTensor, type Pass, type Recording } from '@ensample/tensor';
import { batchWords } from '../../step.ts';
import type { Bench } from '../bench.ts';
import { draw } from '../draw.ts';
import { recordingTime } from '../repeats.ts';

/** Results of two kernels may differ by so much, relative to the largest. */
const agreement = 5e-3;

/** @throws Error where results are not those expected. */
export function checkAttention(results: Float32Array, expected: Float32Array): void {
  const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const off = results.reduce((worst, value, i) => Math.max(worst, Math.abs(value - (expected[i] ?? NaN))), 0);
  if (!(off <= agreement * scale)) throw new Error(`attention is wrong by ${off / scale}; it was not timed`);
}

/** Attention of the rows of a step in all layers of a cache, one layer after the other. */
export class AttentionStep {
  readonly cache: KvCache;
  readonly #heads: number;
  readonly #leaves: readonly Sequence[];
  readonly #q: GpuTensor<'f32'>;
  readonly #y: GpuTensor<'f32'>;
  #expected = new Float32Array();

  private constructor(cache: KvCache, heads: number, leaves: readonly Sequence[]) {
    this.cache = cache;
    this.#heads = heads;
    this.#leaves = leaves;
    const shape = [leaves.length, heads * cache.layout.headDim];
    this.#q = cache.device.tensor('f32', shape);
    this.#y = cache.device.tensor('f32', shape);
  }

  /** With random queries, one row for each of `leaves`; results are compared with those of tiles by FMA. */
  static async make(cache: KvCache, heads: number, leaves: readonly Sequence[]): Promise<AttentionStep> {
    const step = new AttentionStep(cache, heads, leaves);
    await draw(cache.device, [{ tensor: step.#q, values: 'f32', size: Math.sqrt(3), seed: 9 }]);
    step.#expected = await step.#recorded(tileVariant(cache, false), (recording) => step.#results(recording));
    return step;
  }

  /**
   * @param variant default: the device's
   * @returns µs of a layer
   * @throws Error where results are wrong
   */
  time({ options }: Bench, variant?: AttendVariant): Promise<number> {
    return this.#recorded(variant, async (recording) => {
      checkAttention(await this.#results(recording), this.#expected);
      const ms = await recordingTime(recording, { ...options, least: options.least / 4 });
      return (1e3 * ms) / this.cache.layout.layers.length;
    });
  }

  /** µs of a layer's kernels, each by itself: they read what a whole step left. */
  async parts({ options }: Bench): Promise<Record<string, number>> {
    const times: Record<string, number> = {};
    const names = await this.#recorded(
      undefined,
      async (recording) => (await this.#results(recording), new Set(recording.names)),
    );
    for (const name of names) {
      times[name] = await this.#recorded(
        undefined,
        async (recording) => {
          const ms = await recordingTime(recording, { ...options, least: options.least / 4 });
          return (1e3 * ms) / this.cache.layout.layers.length;
        },
        name,
      );
    }
    return times;
  }

  /** Results of the last layer; what was not written is NaN. */
  async #results(recording: Recording): Promise<Float32Array<ArrayBuffer>> {
    const { device } = this.cache;
    device.write(this.#y, new Float32Array(this.#y.byteLength / 4).fill(NaN));
    recording.submit();
    return device.read(this.#y);
  }

  async #recorded<T>(
    variant: AttendVariant | undefined,
    use: (recording: Recording) => Promise<T>,
    only?: string,
  ): Promise<T> {
    const { device, layout } = this.cache;
    const heads = this.#heads;
    const rows = this.#leaves.length;
    const attention = new Attention(this.cache, { heads, ...(variant && { variant }) });
    const batch = createBatch(device, rows);
    try {
      const places = attention.update(this.#leaves.map((sequence) => ({ sequence, rows: 1 })));
      device.write(batch, batchWords(this.#leaves, places, { tokens: 1, vocab: 100 }));
      const recorder = new Recorder(device);
      const tensors = { batch, q: this.#q, y: this.#y };
      const shape = { stride: heads * layout.headDim, rows };
      const pass: Pass = {
        device,
        run: (kernel, ...rest) => {
          if (only === undefined || kernel.name === only) recorder.run(kernel, ...rest);
        },
      };
      layout.layers.forEach((_, layer) => attention.run(pass, layer, tensors, shape));
      return await use(await recorder.finish());
    } finally {
      attention.destroy();
      batch.destroy();
    }
  }

  destroy(): void {
    this.#q.destroy();
    this.#y.destroy();
  }
}
