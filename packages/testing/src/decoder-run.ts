import { Attention } from '@ensample/bifurcated-attn';
import { KvCache, type KvCacheOptions, type Sequence } from '@ensample/kv-cache';
import type { Decoder } from '@ensample/mixattn-model';
import { createBatch, Recorder, type Device, type GpuTensor, type Recording } from '@ensample/tensor';

/** New tokens of a sequence in a step. */
export interface StepPart {
  readonly sequence: Sequence;
  readonly tokens: readonly number[];
}

/** Runs a decoder step by step over a cache of its own, and reads the logits of every row. */
export class DecoderRun {
  readonly cache: KvCache;
  readonly #attention: Attention;
  readonly #decoder: Decoder;
  readonly #device: Device;
  readonly #steps = new Map<number, Step>();

  constructor(device: Device, decoder: Decoder, options: KvCacheOptions = {}) {
    this.#device = device;
    this.#decoder = decoder;
    this.cache = new KvCache(device, decoder.layout, options);
    this.#attention = new Attention(this.cache, { heads: decoder.config.heads });
  }

  /** @returns for each part the logits of its tokens, `[tokens, vocab]`. */
  async step(parts: readonly StepPart[]): Promise<Float32Array[]> {
    const rows = parts.reduce((sum, { tokens }) => sum + tokens.length, 0);
    for (const { sequence, tokens } of parts) sequence.reserve(tokens.length);
    const places = this.#attention.update(
      parts.map(({ sequence, tokens }) => ({ sequence, rows: tokens.length })),
    );
    const words = new Uint32Array(4 * (1 + rows));
    words[0] = rows;
    parts.forEach(({ sequence, tokens }, i) =>
      tokens.forEach((token, j) => {
        const { firstRow, leaf } = places[i]!;
        words.set([token, sequence.length + j, leaf, i], 4 * (1 + firstRow + j));
      }),
    );
    const step = this.#stepOf(rows);
    this.#device.write(step.batch, words);
    (await this.#recording(step, rows)).submit();
    for (const { sequence, tokens } of parts) sequence.commit(tokens.length);
    const logits = await this.#device.read(step.logits);
    const { vocabSize } = this.#decoder.config;
    return parts.map(({ tokens }, i) => {
      const { firstRow } = places[i]!;
      return logits.slice(vocabSize * firstRow, vocabSize * (firstRow + tokens.length));
    });
  }

  #stepOf(rows: number): Step {
    let step = this.#steps.get(rows);
    if (!step) {
      const batch = createBatch(this.#device, rows);
      const logits = this.#device.tensor('f32', [rows, this.#decoder.config.vocabSize]);
      step = {
        batch,
        logits,
        activations: this.#decoder.activations(rows),
        version: -1,
        recording: undefined,
      };
      this.#steps.set(rows, step);
    }
    return step;
  }

  async #recording(step: Step, rows: number): Promise<Recording> {
    const { version } = this.#attention;
    if (!step.recording || step.version !== version) {
      const { batch, activations, logits } = step;
      const recorder = new Recorder(this.#device);
      this.#decoder.forward(recorder, { batch, attention: this.#attention, activations, rows, logits });
      step.recording = await recorder.finish();
      step.version = version;
    }
    return step.recording;
  }

  /** Frees all but the decoder. */
  destroy(): void {
    for (const { batch, logits, activations } of this.#steps.values()) {
      batch.destroy();
      logits.destroy();
      activations.destroy();
    }
    this.#attention.destroy();
    this.cache.destroy();
  }
}

interface Step {
  readonly batch: GpuTensor<'u32'>;
  readonly logits: GpuTensor<'f32'>;
  readonly activations: ReturnType<Decoder['activations']>;
  version: number;
  recording: Recording | undefined;
}
