import type { Attention } from '@ensample/bifurcated-attn';
import { adjust, invariant, sample, type Device, type GpuTensor, type Pass } from '@ensample/tensor';
import { bucketOf } from './buckets.ts';
import type { RunState } from './run-state.ts';
import type { Stepper } from './stepper.ts';

/** What a step of a model gives for each row. */
export interface Drawn {
  /** `[rows, vocab]`, the model's own. */
  readonly logits: GpuTensor<'f32'>;
  /** `[rows, vocab]`, after bias and penalties; the logits themselves where there are none. */
  readonly adjusted: GpuTensor<'f32'>;
  /** `[rows, 4]`: see `sample` of `@ensample/tensor`. */
  readonly picks: GpuTensor<'u32'>;
}

/** Runs a model's step and draws a token for each row. Its buffers are sized for the largest step so far. */
export class Sampler {
  readonly #device: Device;
  readonly #vocab: number;
  #rows = 0;
  #drawn: Drawn | undefined;
  #version = 0;

  constructor(device: Device, vocab: number) {
    this.#device = device;
    this.#vocab = vocab;
  }

  /** Changes when buffers were replaced. */
  get version(): number {
    return this.#version;
  }

  /** Makes room for steps of `rows` rows, and for logits beside the adjusted ones. */
  ensure(rows: number, adjusting: boolean): void {
    const separate = this.#drawn !== undefined && this.#drawn.adjusted !== this.#drawn.logits;
    if (rows <= this.#rows && (separate || !adjusting)) return;
    this.destroy();
    this.#rows = Math.max(this.#rows, bucketOf(rows));
    const tensor = () => this.#device.tensor('f32', [this.#rows, this.#vocab]);
    const logits = tensor();
    const adjusted = adjusting || separate ? tensor() : logits;
    this.#drawn = { logits, adjusted, picks: this.#device.tensor('u32', [this.#rows, 4]) };
    this.#version++;
  }

  /** Records the model's step and the draws for up to `rows` rows. */
  record(
    pass: Pass,
    stepper: Stepper,
    state: RunState,
    { rows, adjusting, sequences, attention }: SamplerStep,
  ): Drawn {
    invariant(this.#drawn, () => 'a sampler is used before ensure()');
    const { logits, picks } = this.#drawn;
    const { batch } = stepper;
    const shape = { vocab: this.#vocab, rows };
    stepper.forward(pass, rows, { logits }, attention);
    const extra = adjusting ? state.adjusting : undefined;
    const adjusted = extra ? this.#drawn.adjusted : logits;
    if (extra) {
      const { states, history } = state.tensors;
      adjust(pass, { batch, sequences, states, history, logits, ...extra, adjusted }, shape);
    }
    sample(pass, { batch, sequences, logits, adjusted, picks }, shape);
    return { logits, adjusted, picks };
  }

  /** Frees all buffers. */
  destroy(): void {
    for (const tensor of new Set<GpuTensor>(Object.values(this.#drawn ?? {}))) tensor.destroy();
    this.#drawn = undefined;
  }
}

/** How a step is drawn from. */
export interface SamplerStep {
  readonly rows: number;
  /** Whether bias and penalties apply. */
  readonly adjusting: boolean;
  /** `[sequences, 16]`: the target's, or as the draft model samples them. */
  readonly sequences: GpuTensor<'u32'>;
  /** Default: the stepper's own plan. */
  readonly attention?: Attention;
}
