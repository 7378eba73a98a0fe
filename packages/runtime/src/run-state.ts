import { maxDraftLength, type RoundTensors } from '@ensample/spec-decode';
import {
  encodeSequence,
  encodeState,
  finishedWord,
  invariant,
  sequenceWords,
  stateWords,
  type Device,
  type GpuTensor,
} from '@ensample/tensor';
import { bucketOf } from './buckets.ts';
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

/** What a run begins with. */
export interface RunStart {
  readonly prompt: readonly number[];
  readonly stops: readonly number[];
  /** Position at which samples must have ended. */
  readonly end: number;
}

/** Bias and penalties of a run. */
export interface AdjustState {
  /** `[vocab]` */
  readonly bias: GpuTensor<'f32'>;
  /** `[samples, vocab]` */
  readonly counts: GpuTensor<'u32'>;
}

interface StateTensors extends Omit<RoundTensors, 'slots'> {
  /** The sequences as a draft model samples them. */
  readonly draftSequences: GpuTensor<'u32'>;
  readonly stops: GpuTensor<'u32'>;
  /** `[rows, 4]` of the longest round: see `accept` of `@ensample/spec-decode`. */
  readonly results: GpuTensor<'u32'>;
}

/**
 * How the samples of a run are drawn and where they stand, on the device: written once at the begin of a run, moved on
 * by kernels. Sized for the largest run so far; what penalties need is made when first asked for.
 */
export class RunState {
  readonly #device: Device;
  readonly #vocab: number;
  #samples = 0;
  #words = 0;
  #tensors: StateTensors | undefined;
  #adjusting: AdjustState | undefined;
  #version = 0;

  constructor(device: Device, vocab: number) {
    this.#device = device;
    this.#vocab = vocab;
  }

  /** Changes when buffers were replaced. */
  get version(): number {
    return this.#version;
  }

  /** Samples, stop tokens and history. */
  get tensors(): StateTensors {
    invariant(this.#tensors, () => 'the state of a run is used before begin()');
    return this.#tensors;
  }

  /** Bias and penalties of the run; undefined where there are none. */
  get adjusting(): AdjustState | undefined {
    return this.#adjusting;
  }

  /** Writes a run's state: one sequence per sample, with seed + index. */
  begin(options: ResolvedOptions, { prompt, stops, end }: RunStart): void {
    const { samples } = options;
    const own = end - prompt.length;
    this.#grow(samples, prompt.length + samples * own, adjusts(options));
    const { sequences, draftSequences, states, history } = this.tensors;
    const records = (temperature: number) => {
      const words = new Uint32Array(sequenceWords * this.#samples);
      for (let i = 0; i < samples; i++) {
        const place = { start: prompt.length, end, history: i * own, counts: i };
        const state = { ...options, ...place, temperature, seed: options.seed + i };
        words.set(encodeSequence(state), sequenceWords * i);
      }
      return words;
    };
    const standing = new Uint32Array(stateWords * this.#samples);
    for (let i = 0; i < samples; i++) standing.set(encodeState(prompt.length), stateWords * i);
    this.#device.write(sequences, records(options.temperature));
    this.#device.write(draftSequences, records(options.draftTemperature));
    this.#device.write(states, standing);
    this.#device.write(history, Uint32Array.from(prompt));
    this.#device.write(this.tensors.stops, Uint32Array.of(stops.length, ...stops));
    if (this.#adjusting && adjusts(options)) this.#beginAdjusting(this.#adjusting, options, prompt);
  }

  #beginAdjusting(
    { bias, counts }: AdjustState,
    { logitBias, samples }: ResolvedOptions,
    prompt: readonly number[],
  ): void {
    const biases = new Float32Array(this.#vocab);
    for (const [id, value] of logitBias) biases[id] = value;
    this.#device.write(bias, biases);
    const seen = new Uint32Array(this.#vocab);
    for (const id of prompt) seen[id] = inPrompt;
    for (let i = 0; i < samples; i++) this.#device.write(counts, seen, 4 * this.#vocab * i);
  }

  #grow(samples: number, words: number, adjusting: boolean): void {
    const fits = samples <= this.#samples && words <= this.#words;
    if (!fits || (adjusting && !this.#adjusting)) {
      const keepsAdjusting = adjusting || this.#adjusting !== undefined;
      this.destroy();
      this.#samples = Math.max(this.#samples, bucketOf(samples));
      this.#words = Math.max(this.#words, bucketOf(words));
      this.#tensors = this.#makeTensors();
      if (keepsAdjusting) this.#adjusting = this.#makeAdjusting();
      this.#version++;
    }
  }

  #makeTensors(): StateTensors {
    const device = this.#device;
    return {
      sequences: device.tensor('u32', [this.#samples, sequenceWords]),
      draftSequences: device.tensor('u32', [this.#samples, sequenceWords]),
      states: device.tensor('u32', [this.#samples, stateWords]),
      history: device.tensor('u32', [this.#words]),
      stops: device.tensor('u32', [1 + stopCapacity]),
      results: device.tensor('u32', [this.#samples * (1 + maxDraftLength), 4]),
    };
  }

  #makeAdjusting(): AdjustState {
    const device = this.#device;
    return {
      bias: device.tensor('f32', [this.#vocab]),
      counts: device.tensor('u32', [this.#samples, this.#vocab]),
    };
  }

  /** Stops a sample from outside (a stop string): its rows idle from the next round on. */
  stop(index: number): void {
    this.#device.write(this.tensors.states, Uint32Array.of(1), 4 * (stateWords * index + finishedWord));
  }

  /** Frees all buffers. */
  destroy(): void {
    const tensors: Record<string, GpuTensor> = { ...this.#tensors, ...this.#adjusting };
    for (const tensor of Object.values(tensors)) tensor.destroy();
    this.#tensors = undefined;
    this.#adjusting = undefined;
  }
}
