import { accept, encodeSlots, layOutRows } from '@ensample/spec-decode';
import {
  adjust,
  encodeSequence,
  encodeState,
  sample,
  sequenceWords,
  stateWords,
  tally,
  type Batch,
  type Device,
  type GpuTensor,
  type Pass,
  type SequenceSampling,
} from '@ensample/tensor';

/** Samples of a round, as an engine runs them. */
export interface RoundShape {
  readonly n: number;
  readonly vocab: number;
  /** Position of the first token to draw. */
  readonly start: number;
  /** Tokens that samples may draw. */
  readonly tokens: number;
  /** For each sample its leaf in the plan, in the plan's order. */
  readonly leaves: readonly number[];
}

/** Samples draw from 95 % of the mass; penalties for rounds that adjust. */
const sampling: Omit<SequenceSampling, 'seed' | 'start' | 'end' | 'history' | 'counts'> = {
  temperature: 0.8,
  topK: 0,
  topP: 0.95,
  minP: 0,
  repetitionPenalty: 1.1,
  presencePenalty: 0.1,
  frequencyPenalty: 0.1,
};

/** What a round does besides the model's step: rows are laid out before it, tokens drawn and accepted after it. */
export class Round {
  readonly results: GpuTensor<'u32'>;
  readonly #shape: RoundShape;
  readonly #tensors: ReturnType<typeof roundTensors>;

  constructor(device: Device, shape: RoundShape) {
    this.#shape = shape;
    this.#tensors = roundTensors(device, shape);
    this.results = this.#tensors.results;
    const { n, start, tokens, leaves } = shape;
    const slots = leaves.map((leaf, sequence) => ({ leaf, sequence }));
    device.write(this.#tensors.slots, encodeSlots(slots, 1));
    for (let i = 0; i < n; i++) {
      const place = { start, end: start + tokens, history: i * tokens, counts: i };
      const record = encodeSequence({ ...sampling, ...place, seed: 11 + i });
      device.write(this.#tensors.sequences, record, 4 * sequenceWords * i);
      device.write(this.#tensors.states, encodeState(start), 4 * stateWords * i);
    }
  }

  /** Writes the batch of a step. */
  layOut(pass: Pass, batch: Batch): void {
    layOutRows(pass, { ...this.#tensors, batch });
  }

  /** Draws a token for each row and accepts it. @param adjusting with penalties and bias */
  draw(pass: Pass, batch: Batch, logits: GpuTensor<'f32'>, adjusting: boolean): void {
    const { n: rows, vocab } = this.#shape;
    const tensors = { ...this.#tensors, batch, logits };
    if (adjusting) adjust(pass, tensors, { vocab, rows });
    const adjusted = adjusting ? tensors.adjusted : logits;
    const { sequences, picks } = tensors;
    sample(pass, { batch, sequences, logits, adjusted, picks }, { vocab, rows });
    accept(pass, tensors, { vocab });
    const { states, history, counts } = tensors;
    if (adjusting) tally(pass, { sequences, states, history, counts }, { vocab });
  }

  destroy(): void {
    for (const tensor of Object.values(this.#tensors)) tensor.destroy();
  }
}

function roundTensors(device: Device, { n, vocab, start, tokens }: RoundShape) {
  return {
    slots: device.tensor('u32', [1 + n, 4]),
    sequences: device.tensor('u32', [n, sequenceWords]),
    states: device.tensor('u32', [n, stateWords]),
    history: device.tensor('u32', [start + n * tokens]),
    picks: device.tensor('u32', [n, 4]),
    stops: device.tensor('u32', [1]),
    results: device.tensor('u32', [n, 4]),
    bias: device.tensor('f32', [vocab]),
    counts: device.tensor('u32', [n, vocab]),
    adjusted: device.tensor('f32', [n, vocab]),
  };
}
