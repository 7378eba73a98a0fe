import {
  adjust,
  advance,
  compact,
  encodeSequence,
  finishedWord,
  invariant,
  sample,
  sequenceWords,
  type Device,
  type GpuTensor,
  type Pass,
  type Recording,
} from '@ensample/tensor';
import { bucketOf, type Stepper } from './stepper.ts';
import { stopCapacity, type ResolvedOptions } from './options.ts';

const inPrompt = 0x8000_0000;

/** Whether the logits must be changed before a token is drawn. */
export function adjusts(options: ResolvedOptions): boolean {
  return (
    options.logitBias.size > 0 ||
    options.repetitionPenalty !== 1 ||
    options.presencePenalty !== 0 ||
    options.frequencyPenalty !== 0
  );
}

/**
 * Buffers and kernels after the logits: adjust, draw, advance. Sized for the largest request so far; those for
 * penalties are made when first asked for.
 */
export class Sampler {
  readonly #device: Device;
  readonly #vocab: number;
  readonly #stops: GpuTensor<'u32'>;
  #capacity = 0;
  #tensors: SamplerTensors | undefined;
  #adjusting: AdjustTensors | undefined;
  #version = 0;

  constructor(device: Device, vocab: number) {
    this.#device = device;
    this.#vocab = vocab;
    this.#stops = device.tensor('u32', [1 + stopCapacity]);
  }

  /** Changes when buffers were replaced. */
  get version(): number {
    return this.#version;
  }

  /** `[rows, 4]`: token, log-probability, status, position. */
  get results(): GpuTensor<'u32'> {
    return this.#made.results;
  }

  get #made(): SamplerTensors {
    invariant(this.#tensors, () => 'sampler used before begin()');
    return this.#tensors;
  }

  /** Writes a request's state: one sequence per sample, with seed + index. */
  begin(options: ResolvedOptions, stops: readonly number[], prompt: readonly number[], end: number): void {
    this.#grow(options.samples, adjusts(options));
    const { samples } = options;
    const words = new Uint32Array(sequenceWords * samples);
    for (let i = 0; i < samples; i++) {
      const state = { ...options, seed: options.seed + i, start: prompt.length, end, counts: i };
      words.set(encodeSequence(state), sequenceWords * i);
    }
    this.#device.write(this.#made.sequences, words);
    this.#device.write(this.#stops, Uint32Array.of(stops.length, ...stops));
    if (adjusts(options)) this.#beginAdjusting(options, prompt);
  }

  #beginAdjusting({ logitBias, samples }: ResolvedOptions, prompt: readonly number[]): void {
    if (!this.#adjusting) return;
    const bias = new Float32Array(this.#vocab);
    for (const [id, value] of logitBias) bias[id] = value;
    const counts = new Uint32Array(this.#vocab);
    for (const id of prompt) counts[id] = inPrompt;
    this.#device.write(this.#adjusting.bias, bias);
    for (let i = 0; i < samples; i++) this.#device.write(this.#adjusting.counts, counts, 4 * this.#vocab * i);
  }

  #grow(samples: number, adjusting: boolean): void {
    const rows = Math.max(this.#capacity, bucketOf(samples));
    if (rows > this.#capacity || (adjusting && !this.#adjusting)) {
      const keepsAdjusting = adjusting || this.#adjusting !== undefined;
      this.#free();
      this.#capacity = rows;
      this.#tensors = samplerTensors(this.#device, rows, this.#vocab);
      if (keepsAdjusting) this.#adjusting = adjustTensors(this.#device, rows, this.#vocab);
      this.#version++;
    }
  }

  /** Stops a sample from outside (a stop string): its row idles from the next step on. */
  stop(index: number): void {
    this.#device.write(this.#made.sequences, Uint32Array.of(1), 4 * (sequenceWords * index + finishedWord));
  }

  /** Records a whole decode step for up to `rows` rows: model, draw, advance. */
  step(pass: Pass, stepper: Stepper, rows: number, adjusting: boolean): void {
    const { sequences, logits, picks, results } = this.#made;
    const { batch } = stepper;
    const vocab = this.#vocab;
    stepper.forward(pass, rows, logits);
    const changed = adjusting ? this.#adjusting : undefined;
    if (changed) adjust(pass, { batch, sequences, logits, ...changed }, { vocab, rows });
    sample(pass, { batch, sequences, logits, adjusted: changed?.adjusted ?? logits, picks }, { vocab, rows });
    advance(pass, { batch, sequences, picks, stops: this.#stops, results });
  }

  /** The recording that moves the remaining rows together: `moves` is the number, then (old row, new leaf) pairs. */
  compact(stepper: Stepper, moves: Uint32Array<ArrayBuffer>): Promise<Recording> {
    const tensors = { batch: stepper.batch, moves: this.#made.moves };
    this.#device.write(tensors.moves, moves);
    return stepper.recording(`compact ${this.#version}`, (pass) => {
      compact(pass, tensors);
    });
  }

  #free(): void {
    const tensors: Record<string, GpuTensor> = { ...this.#tensors, ...this.#adjusting };
    for (const tensor of Object.values(tensors)) tensor.destroy();
    this.#tensors = undefined;
    this.#adjusting = undefined;
  }

  /** Frees all buffers. */
  destroy(): void {
    this.#free();
    this.#stops.destroy();
  }
}

interface SamplerTensors {
  readonly sequences: GpuTensor<'u32'>;
  readonly logits: GpuTensor<'f32'>;
  readonly picks: GpuTensor<'u32'>;
  readonly results: GpuTensor<'u32'>;
  readonly moves: GpuTensor<'u32'>;
}

interface AdjustTensors {
  readonly bias: GpuTensor<'f32'>;
  readonly counts: GpuTensor<'u32'>;
  readonly adjusted: GpuTensor<'f32'>;
}

function samplerTensors(device: Device, rows: number, vocab: number): SamplerTensors {
  return {
    sequences: device.tensor('u32', [rows, sequenceWords]),
    logits: device.tensor('f32', [rows, vocab]),
    picks: device.tensor('u32', [rows, 4]),
    results: device.tensor('u32', [rows, 4]),
    moves: device.tensor('u32', [1 + rows, 2]),
  };
}

function adjustTensors(device: Device, rows: number, vocab: number): AdjustTensors {
  return {
    bias: device.tensor('f32', [vocab]),
    counts: device.tensor('u32', [rows, vocab]),
    adjusted: device.tensor('f32', [rows, vocab]),
  };
}
