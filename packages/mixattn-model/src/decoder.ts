import type { Attention } from '@ensample/bifurcated-attn';
import type { KvLayout } from '@ensample/kv-cache';
import {
  embed,
  invariant,
  matmul,
  partialSums,
  rmsNorm,
  rope,
  type Batch,
  type Device,
  type GpuTensor,
  type Matrix,
  type Operand,
  type Pass,
} from '@ensample/tensor';
import type { ModelConfig } from './config.ts';
import type { HostMatrix } from './host-matrix.ts';
import { uploadWeights, type Layer, type Owned, type Parts } from './upload.ts';
import type { WeightReader } from './weights.ts';

/** What the layers write on the way; rows up to the capacity they were made for. */
export interface Activations {
  readonly rows: number;
  /** `[rows, hidden]`: the residual stream. */
  readonly hidden: GpuTensor<'f32'>;
  /** `[rows, hidden]` */
  readonly normed: GpuTensor<Operand>;
  /** `[rows, (heads + 2 kvHeads) · headDim]` */
  readonly qkv: GpuTensor<'f32'>;
  /** `[rows, heads · headDim]` */
  readonly attended: GpuTensor<Operand>;
  /** `[rows, intermediate]` */
  readonly gated: GpuTensor<Operand>;
  /** For products whose results several workgroups share; absent where there are none. */
  readonly partial?: GpuTensor<'f32'> | undefined;
  destroy(): void;
}

/** One forward pass of a step. */
export interface ForwardStep {
  readonly batch: Batch;
  readonly attention: Attention;
  readonly activations: Activations;
  /** Row capacity that grids are made for; the batch holds the actual count. */
  readonly rows: number;
  /** `[rows, vocab]` to fill; without it only keys and values are computed (prefill). */
  readonly logits?: GpuTensor<'f32'>;
}

/**
 * A decoder of Llama blocks with MixAttention's layer map: windows, and layers that attend over another
 * layer's keys and values with their own query (arXiv 2409.15012 §3).
 */
export class Decoder {
  readonly config: ModelConfig;
  readonly layout: KvLayout;
  readonly #device: Device;
  readonly #layers: readonly Layer[];
  readonly #embedding: Matrix;
  readonly #head: Matrix;
  readonly #finalNorm: GpuTensor<'f32'>;
  readonly #angles: GpuTensor<'f32'>;
  readonly #owned: readonly Owned[];

  private constructor(device: Device, config: ModelConfig, parts: Parts, owned: readonly Owned[]) {
    this.config = config;
    this.layout = { layers: config.layers, kvHeads: config.kvHeads, headDim: config.headDim };
    this.#device = device;
    this.#layers = parts.layers;
    this.#embedding = parts.embedding;
    this.#head = parts.head;
    this.#finalNorm = parts.finalNorm;
    this.#angles = parts.angles;
    this.#owned = owned;
  }

  /**
   * Uploads a model's weights, one layer at a time; takes over matrices that are on the device already. On failure
   * nothing of them stays there.
   * @throws InvalidModelError for damaged weights, OutOfMemoryError where they do not fit.
   * @param onLayer called after each layer with the number done.
   */
  static async load(
    device: Device,
    config: ModelConfig,
    weights: WeightReader<HostMatrix | Matrix>,
    onLayer?: (done: number) => void,
  ): Promise<Decoder> {
    const owned: Owned[] = [];
    let parts: Parts | undefined;
    try {
      await device.checkMemory(`model ${config.architecture}`, async () => {
        parts = await uploadWeights(device, config, weights, owned, onLayer);
      });
    } catch (error) {
      for (const part of owned) part.destroy();
      throw error;
    }
    invariant(parts, () => 'weights were neither uploaded nor refused');
    return new Decoder(device, config, parts, owned);
  }

  /** Makes the buffers that {@link forward} writes, for up to `rows` rows. */
  activations(rows: number): Activations {
    const { hiddenSize, heads, headDim, intermediateSize } = this.config;
    const { operands } = this.#device.tier;
    const tensors = {
      hidden: this.#device.tensor('f32', [rows, hiddenSize]),
      normed: this.#device.tensor(operands, [rows, hiddenSize]),
      qkv: this.#device.tensor('f32', [rows, this.#qkvWidth(true)]),
      attended: this.#device.tensor(operands, [rows, heads * headDim]),
      gated: this.#device.tensor(operands, [rows, intermediateSize]),
    } as const;
    const partial = this.#partialFor(rows);
    const all = [...Object.values(tensors), ...(partial ? [partial] : [])];
    return { rows, ...tensors, partial, destroy: () => all.forEach((tensor) => tensor.destroy()) };
  }

  #partialFor(rows: number): GpuTensor<'f32'> | undefined {
    const { hiddenSize, intermediateSize, vocabSize } = this.config;
    const outputs = [hiddenSize, this.#qkvWidth(true), 2 * intermediateSize, vocabSize];
    const size = Math.max(...outputs.map((n) => partialSums(this.#device, rows, n)));
    return size > 0 ? this.#device.tensor('f32', [size]) : undefined;
  }

  #qkvWidth(owns: boolean): number {
    const { heads, kvHeads, headDim } = this.config;
    return (heads + (owns ? 2 * kvHeads : 0)) * headDim;
  }

  /** Records a step: embedding, all layers, and where asked for the logits of every row. */
  forward(pass: Pass, step: ForwardStep): void {
    const { batch, activations, rows, logits } = step;
    const { hidden, normed, partial } = activations;
    const width = this.config.hiddenSize;
    const eps = this.config.normEps;
    embed(pass, { batch, weights: this.#embedding, y: hidden }, { rows });
    this.#layers.forEach((layer, index) => {
      rmsNorm(pass, { batch, x: hidden, weight: layer.inputNorm, y: normed }, { width, eps, rows });
      this.#attend(pass, step, layer, index);
      rmsNorm(pass, { batch, x: hidden, weight: layer.postNorm, y: normed }, { width, eps, rows });
      this.#feedForward(pass, step, layer);
    });
    if (!logits) return;
    rmsNorm(pass, { batch, x: hidden, weight: this.#finalNorm, y: normed }, { width, eps, rows });
    matmul(pass, { batch, x: normed, weights: this.#head, y: logits, partial }, { rows });
  }

  #attend(
    pass: Pass,
    { batch, attention, activations, rows }: ForwardStep,
    layer: Layer,
    index: number,
  ): void {
    const { heads, headDim, layers } = this.config;
    const { hidden, normed, qkv, attended, partial } = activations;
    const angles = this.#angles;
    const owns = layers[index]?.kvSource === index;
    const stride = this.#qkvWidth(owns);
    matmul(pass, { batch, x: normed, weights: layer.qkv, y: qkv, partial }, { rows });
    // A layer that reuses keys reads them as stored: only its queries are turned.
    if (owns) attention.ropeAppend(pass, index, { batch, angles, x: qkv }, { rows });
    else rope(pass, { batch, angles, x: qkv }, { heads, headDim, stride, rows });
    attention.run(pass, index, { batch, q: qkv, y: attended }, { stride, rows });
    const projected = { batch, x: attended, weights: layer.output, y: hidden, partial };
    matmul(pass, projected, { rows, store: 'accumulate' });
  }

  #feedForward(pass: Pass, { batch, activations, rows }: ForwardStep, layer: Layer): void {
    const { hidden, normed, gated, partial } = activations;
    matmul(pass, { batch, x: normed, weights: layer.gateUp, y: gated, partial }, { rows, store: 'gated' });
    matmul(pass, { batch, x: gated, weights: layer.down, y: hidden, partial }, { rows, store: 'accumulate' });
  }

  /** Frees the weights. */
  destroy(): void {
    for (const part of this.#owned) part.destroy();
  }
}
