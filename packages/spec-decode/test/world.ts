import {
  encodeSequence,
  Recorder,
  sequenceWords,
  stateWords,
  type Device,
  type GpuTensor,
  type SequenceSampling,
} from '@ensample/tensor';
import type { Random, Scope } from '@ensample/testing';
import { encodeSlots, type DraftRound, type DraftStrategy, type RoundTensors } from '../src/index.ts';

/** A place in the history without a guess. */
export const none = 0xffffffff;

/** A guess in the history. */
export function guessWord(token: number, origin: number): number {
  return (token | (origin << 24)) >>> 0;
}

/** A sample as a test sets it up. */
export interface TestSample {
  /** Of the pending token. */
  readonly position: number;
  /** Position at which it must have ended. Default 1000. */
  readonly end?: number;
  readonly finished?: boolean;
  /** Positions that the draft model has. Default: all before the pending token. */
  readonly stored?: number;
  /** What stands in its part of the history: tokens, guesses, {@link none}, and what earlier rounds left there. */
  readonly words?: readonly number[];
  readonly sampling?: Partial<SequenceSampling>;
}

/** What a world is made of. */
export interface WorldParts {
  readonly prompt: readonly number[];
  readonly samples: readonly TestSample[];
  /** Words of the history for each sample. */
  readonly room: number;
  /** Samples that run, in the order of their slots. Default: all, in order. */
  readonly running?: readonly number[];
  /** Rows of each. */
  readonly rows: number;
  /** Sequences more than samples, as left over from a larger run: zeros. Default 0. */
  readonly spare?: number;
}

/** Samples on the device. */
export interface World {
  readonly tensors: RoundTensors;
  /** The history as it was uploaded. */
  readonly history: readonly number[];
  /** The states as they were uploaded. */
  readonly states: readonly number[];
  /** Where a sample's place is in the history. */
  readonly at: (sample: number, position: number) => number;
  /** Prompt and own tokens of a sample up to its pending one, and the guesses right behind it. */
  readonly text: (sample: number, rows?: number) => { tokens: number[]; guesses: number };
}

const defaults = {
  ...{ seed: 0, temperature: 1, topK: 0, topP: 1, minP: 0 },
  ...{ repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 },
};

/** The 16 words of each sample. */
export function sequencesOf({
  prompt,
  samples,
  room,
  spare = 0,
}: Omit<WorldParts, 'rows'>): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array((samples.length + spare) * sequenceWords);
  samples.forEach(({ end = 1000, sampling }, i) => {
    const place = { start: prompt.length, end, history: i * room, counts: i };
    words.set(encodeSequence({ ...defaults, ...place, ...sampling }), i * sequenceWords);
  });
  return words;
}

/** Uploads samples. Each has its part of the history, as in a run. */
export function createWorld(device: Device, own: Scope['own'], parts: WorldParts): World {
  const { prompt, samples, room, rows, spare = 0 } = parts;
  const running = parts.running ?? samples.map((_, i) => i);
  const upload = (words: ArrayLike<number>, width: number): GpuTensor<'u32'> =>
    own(device.upload('u32', [words.length / width, width], Uint32Array.from(words)));
  const history = [...prompt];
  for (const { words = [] } of samples) {
    const used = words.slice(0, room);
    history.push(...used, ...new Array<number>(room - used.length).fill(none));
  }
  const states = samples.flatMap(({ position, finished = false, stored = position }) => [
    ...[position, Number(finished), prompt.length, stored],
  ]);
  states.push(...new Array<number>(spare * stateWords).fill(0));
  const slots = running.map((sequence) => ({ leaf: 1000 + sequence, sequence }));
  const at = (sample: number, position: number) => position + (position >= prompt.length ? sample * room : 0);
  return {
    tensors: {
      slots: upload(encodeSlots(slots, rows), 4),
      sequences: upload(sequencesOf(parts), sequenceWords),
      states: upload(states, stateWords),
      history: upload(history, 1),
    },
    history,
    states,
    at,
    text: (sample, most = 1) => {
      const { position, end = 1000 } = samples[sample]!;
      const tokens = Array.from({ length: position + 1 }, (_, p) => history[at(sample, p)]! & 0xffffff);
      let guesses = 0;
      for (let p = position + 1; p < Math.min(position + most, end); p++) {
        const word = history[at(sample, p)]!;
        if (word === none) break;
        tokens.push(word & 0xffffff);
        guesses++;
      }
      return { tokens, guesses };
    },
  };
}

/** Rows of a step as a test wants them, `each` of them a sample. */
export function uploadRows(
  device: Device,
  own: Scope['own'],
  rows: readonly (readonly number[])[],
  each: number,
): GpuTensor<'u32'> {
  return own(
    device.upload(
      'u32',
      [4 * (1 + rows.length)],
      Uint32Array.from([rows.length, each, 0, 0, ...rows.flat()]),
    ),
  );
}

/** Lets a strategy make its guesses. */
export async function propose(
  strategy: DraftStrategy,
  round: Omit<DraftRound, 'record'>,
): Promise<readonly string[]> {
  const names: string[] = [];
  const recordings = await strategy.propose({
    ...round,
    record: (name, dispatches) => {
      names.push(name);
      const recorder = new Recorder(round.device);
      dispatches(recorder);
      return recorder.finish();
    },
  });
  for (const recording of recordings) recording.submit();
  return names;
}

/** Words of a tensor, `width` of them in each row. */
export async function readRows(device: Device, tensor: GpuTensor<'u32'>, width: number): Promise<number[][]> {
  const words = await device.read(tensor);
  return Array.from({ length: words.length / width }, (_, i) => [
    ...words.subarray(i * width, (i + 1) * width),
  ]);
}

/** `count` integers below `below`. */
export function integers(random: Random, count: number, below: number): number[] {
  return Array.from({ length: count }, () => random.integer(below));
}

/** `list` in another order. */
export function shuffled<T>(random: Random, list: readonly T[]): T[] {
  return list
    .map((item) => ({ item, key: random.uniform() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}
