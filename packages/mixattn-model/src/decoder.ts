import type { Attention } from '@ensample/bifurcated-attn';
import type { KvLayout } from '@ensample/kv-cache';
import {
  addAndNorm,
  embed,
  invariant,
  matmul,
  normRows,
  normSums,
  partialSums,
  rope,
  ropeEpilogue,
  type Batch,
  type Device,
  type Epilogue,
  type GpuTensor,
  type Matrix,
  type NormedRows,
  type NormOperands,
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
  /** For norms that are part of the products around them; absent where there are none. */
  readonly norms?: GpuTensor<'f32'> | undefined;
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
  /** `[rows, vocab]` to fill; without it only keys and values are computed (prefill), and what they depend on. */
  readonly logits?: GpuTensor<'f32'>;
  /** Without logits, the last layer whose keys and values are of use. Default: the last one that has its own. */
  readonly lastOwner?: number;
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
    const room = (size: number) => (size > 0 ? this.#device.tensor('f32', [size]) : undefined);
    const outputs = [hiddenSize, this.#qkvWidth(true), 2 * intermediateSize, this.config.vocabSize];
    const partial = room(Math.max(...outputs.map((n) => partialSums(this.#device, rows, n))));
    const norms = room(normSums(this.#device, rows, hiddenSize));
    const all = [...Object.values(tensors), partial, norms];
    return { rows, ...tensors, partial, norms, destroy: () => all.forEach((tensor) => tensor?.destroy()) };
  }

  #qkvWidth(owns: boolean): number {
    const { heads, kvHeads, headDim } = this.config;
    return (heads + (owns ? 2 * kvHeads : 0)) * headDim;
  }

  /**
   * Records a step: embedding, all layers, and the logits of every row. Where these are not asked for, it ends with the keys and
   * values of the last layer whose own are of use: what reuses them, and all behind it, would be for nobody.
   */
  forward(pass: Pass, step: ForwardStep): void {
    const { batch, attention, activations, rows, logits } = step;
    const { qkv, attended, gated, partial } = activations;
    embed(pass, { batch, weights: this.#embedding, y: activations.hidden }, { rows });
    const { normEps: eps, layers } = this.config;
    const { lastOwner = layers.findLastIndex(({ kvSource }, index) => kvSource === index) } = step;
    let x = normRows(pass, stream(step, this.#layers[0]?.inputNorm ?? this.#finalNorm), { rows, eps });
    for (const [index, layer] of this.#layers.entries()) {
      const stride = this.#project(pass, step, { x, layer, index });
      if (!logits && index === lastOwner) return;
      attention.run(pass, index, { batch, q: qkv, y: attended }, { stride, rows });
      const output = { x: attended, weights: layer.output, partial };
      const inner = { rows, eps, reader: layer.gateUp, before: x };
      x = addAndNorm(pass, output, stream(step, layer.postNorm), inner);
      matmul(pass, { batch, x, weights: layer.gateUp, y: gated, partial }, { rows, store: 'gated' });
      const next = this.#layers[index + 1] ?? { inputNorm: this.#finalNorm, qkv: this.#head };
      const down = { x: gated, weights: layer.down, partial };
      const outer = { rows, eps, reader: next.qkv, before: x };
      x = addAndNorm(pass, down, stream(step, next.inputNorm), outer);
    }
    if (logits) matmul(pass, { batch, x, weights: this.#head, y: logits, partial }, { rows });
  }

  /** Queries, turned; and of an owner keys and values, stored. @returns values in a row of them */
  #project(
    pass: Pass,
    { batch, attention, activations, rows }: ForwardStep,
    { x, layer, index }: { x: NormedRows; layer: Layer; index: number },
  ): number {
    const { heads, headDim, layers } = this.config;
    const { qkv, partial } = activations;
    const angles = this.#angles;
    const owns = layers[index]?.kvSource === index;
    const stride = this.#qkvWidth(owns);
    // A layer that reuses keys reads them as stored: only its queries are turned.
    let store: Epilogue | undefined;
    if (this.#device.tier.rotary === 'product')
      store = owns ? attention.appendEpilogue(index, angles) : ropeEpilogue(angles, headDim);
    matmul(pass, { batch, x, weights: layer.qkv, y: qkv, partial }, { rows, ...(store && { store }) });
    if (store) return stride;
    if (owns) attention.ropeAppend(pass, index, { batch, angles, x: qkv }, { rows });
    else rope(pass, { batch, angles, x: qkv }, { heads, headDim, stride, rows });
    return stride;
  }

  /** Frees the weights. */
  destroy(): void {
    for (const part of this.#owned) part.destroy();
  }
}

/** The residual stream of a step, to be normalised with these weights. */
function stream({ batch, activations }: ForwardStep, weight: GpuTensor<'f32'>): NormOperands {
  const { hidden, normed, norms } = activations;
  return { batch, y: hidden, weight, normed, norms };
}
