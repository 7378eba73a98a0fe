import { Attention } from '@ensample/bifurcated-attn';
import { KvCache, type Sequence } from '@ensample/kv-cache';
import type { Activations, Decoder } from '@ensample/mixattn-model';
import {
  createBatch,
  invariant,
  Recorder,
  reducingKernel,
  type Batch,
  type Device,
  type GpuTensor,
  type Recording,
} from '@ensample/tensor';
import { lossBody } from './loss.wgsl.ts';
import type { TextRow } from './rows.ts';

/** How many tokens go through the model at once. */
export interface StepShape {
  /** Rows that run side by side. */
  readonly sequences: number;
  /** Tokens of each. */
  readonly chunk: number;
}

/** Enough to fill a GPU, with logits of at most 128 MiB; a CPU is full with one row. */
export function stepShape({ tier }: Device, vocabSize: number): StepShape {
  const most = Math.max(1, Math.floor(2 ** 25 / vocabSize));
  const chunk = Math.min(128, most);
  return { chunk, sequences: tier.attention === 'thread' ? 1 : Math.min(8, Math.floor(most / chunk)) };
}

/** Loss of given tokens under a decoder, in nats. The owner of all that it needs but the decoder. */
export class LossRun {
  readonly #device: Device;
  readonly #decoder: Decoder;
  readonly #cache: KvCache;
  readonly #attention: Attention;
  readonly #batch: Batch;
  readonly #activations: Activations;
  readonly #logits: GpuTensor<'f32'>;
  readonly #tokens: GpuTensor<'u32'>;
  readonly #losses: GpuTensor<'f32'>;
  readonly #shape: StepShape;
  readonly #length: number;
  readonly #recordings = new Map<boolean, { version: number; recording: Recording }>();

  /** @param length tokens of the longest row. */
  constructor(device: Device, decoder: Decoder, length: number, shape?: StepShape) {
    const { heads, vocabSize } = decoder.config;
    this.#device = device;
    this.#decoder = decoder;
    this.#length = length;
    this.#shape = shape ?? stepShape(device, vocabSize);
    const rows = this.#shape.sequences * this.#shape.chunk;
    this.#cache = new KvCache(device, decoder.layout);
    this.#attention = new Attention(this.#cache, { heads });
    this.#batch = createBatch(device, rows);
    this.#activations = decoder.activations(rows);
    this.#logits = device.tensor('f32', [rows, vocabSize]);
    this.#tokens = device.tensor('u32', [this.#shape.sequences, length]);
    this.#losses = device.tensor('f32', [this.#shape.sequences, length]);
  }

  /** @returns for each row the losses of its tokens from `from` on. Rows must be equally long. */
  async losses(rows: readonly TextRow[]): Promise<Float32Array[]> {
    const { sequences } = this.#shape;
    const found: Float32Array[] = [];
    for (let i = 0; i < rows.length; i += sequences)
      found.push(...(await this.#group(rows.slice(i, i + sequences))));
    return found;
  }

  async #group(rows: readonly TextRow[]): Promise<Float32Array[]> {
    const length = this.#length;
    invariant(
      rows.every(({ tokens }) => tokens.length === rows[0]?.tokens.length),
      () => 'rows differ in length',
    );
    await this.#ensurePages();
    rows.forEach(({ tokens }, i) => this.#device.write(this.#tokens, tokens, 4 * i * length));
    const sequences = rows.map(() => this.#cache.sequence());
    try {
      await this.#readAll(rows, sequences);
      const losses = await this.#device.read(this.#losses);
      return rows.map(({ tokens, from }, i) => losses.slice(i * length + from, i * length + tokens.length));
    } finally {
      for (const sequence of sequences) sequence.release();
    }
  }

  /** At once: pools that grow on the way get several slabs, and attention is dispatched once a slab. */
  async #ensurePages(): Promise<void> {
    const cache = this.#cache;
    const { sequences, chunk } = this.#shape;
    await this.#device.checkMemory(`KV of ${sequences} rows of ${this.#length} tokens`, () =>
      cache.ensure(cache.kinds.map((kind) => sequences * cache.pagesFor(kind, this.#length, chunk))),
    );
  }

  /** Runs the model over the rows, chunk by chunk; no logits are made before those that are asked for. */
  async #readAll(rows: readonly TextRow[], sequences: readonly Sequence[]): Promise<void> {
    const first = Math.min(...rows.map(({ from }) => from));
    const inputs = (rows[0]?.tokens.length ?? 1) - 1; // nothing follows the last token
    for (let at = 0; at < inputs; at += this.#shape.chunk) {
      const end = Math.min(at + this.#shape.chunk, inputs);
      for (const sequence of sequences) sequence.reserve(end - at);
      this.#place(rows, sequences, at, end);
      (await this.#recording(end >= first)).submit();
      for (const sequence of sequences) sequence.commit(end - at);
    }
  }

  #place(rows: readonly TextRow[], sequences: readonly Sequence[], at: number, end: number): void {
    const places = this.#attention.update(sequences.map((sequence) => ({ sequence, rows: end - at })));
    const words = new Uint32Array(4 * (1 + rows.length * (end - at)));
    words[0] = rows.length * (end - at);
    places.forEach(({ firstRow, leaf }, i) => {
      rows[i]?.tokens
        .subarray(at, end)
        .forEach((token, j) => words.set([token, at + j, leaf, i], 4 * (1 + firstRow + j)));
    });
    this.#device.write(this.#batch, words);
  }

  async #recording(scored: boolean): Promise<Recording> {
    const { version } = this.#attention;
    const known = this.#recordings.get(scored);
    if (known?.version === version) return known.recording;
    const recorder = new Recorder(this.#device);
    this.#record(recorder, scored);
    const recording = await recorder.finish();
    this.#recordings.set(scored, { version, recording });
    return recording;
  }

  #record(pass: Recorder, scored: boolean): void {
    const [batch, tokens, logits, losses] = [this.#batch, this.#tokens, this.#logits, this.#losses];
    const rows = this.#shape.sequences * this.#shape.chunk;
    const step = { batch, attention: this.#attention, activations: this.#activations, rows };
    this.#decoder.forward(pass, scored ? { ...step, logits } : step);
    if (!scored) return;
    const constants = { VOCAB: this.#decoder.config.vocabSize, LENGTH: this.#length };
    const loss = reducingKernel(this.#device.tier, 'next-token-loss', { constants }, lossBody);
    pass.run(loss, { batch, tokens, logits, losses }, [rows]);
  }

  /** Frees all but the decoder. */
  destroy(): void {
    const tensors = [this.#batch, this.#activations, this.#logits, this.#tokens, this.#losses];
    for (const owned of [...tensors, this.#attention, this.#cache]) owned.destroy();
  }
}
