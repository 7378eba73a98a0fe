import {
  adjust,
  encodeSequence,
  encodeState,
  kernel,
  philoxChunk,
  sequenceWords,
  stateWords,
  tally,
  type AdjustTensors,
  type Device,
  type SequenceSampling,
} from '@ensample/tensor';
import {
  adjustReference,
  compute,
  eachTier,
  expectClose,
  scope,
  seeded,
  tolerance,
  uploadBatch,
  type Scope,
} from '@ensample/testing';
import { describe, expect, test } from 'vitest';

const settings: SequenceSampling = {
  ...{ seed: 0, temperature: 1, topK: 0, topP: 1, minP: 0 },
  ...{ repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 },
  ...{ start: 4, end: 40, history: 0, counts: 0 },
};
const penalties = [
  { repetitionPenalty: 1.3, presencePenalty: 0, frequencyPenalty: 0 },
  { repetitionPenalty: 1, presencePenalty: 0.7, frequencyPenalty: 0.4 },
  { repetitionPenalty: 0.8, presencePenalty: -0.5, frequencyPenalty: 1.5 },
];
/** Not a multiple of a workgroup. */
const vocab = 71;
const prompt = [1, 2, 70, 1];
const inPrompt = 2 ** 31;
/** Words of each sequence's part of the history, which begins after the prompt's tokens. */
const room = 12;
/** Rows of each sequence: the pending token and three guesses. */
const rows = 4;

const none = 0xffffffff;
const guess = (token: number, origin: number) => (token | (origin << 24)) >>> 0;
/** Where a sequence's own token is in the history. */
const own = (sequence: number, index: number) => prompt.length + sequence * room + index;

type World = AdjustTensors & { readonly biases: Float32Array; readonly values: Float32Array };

/** Sequences before their first token, with one set of penalties each; token counts lie in another order. */
function createWorld(device: Device, { own: keep }: Scope): World {
  const random = seeded(3);
  const sequences = penalties.flatMap((penalty, i) => [
    ...encodeSequence({ ...settings, ...penalty, history: i * room, counts: 2 - i }),
  ]);
  const seen = Array.from({ length: vocab }, (_, token) => (prompt.includes(token) ? inPrompt : 0));
  const history = [...prompt, ...new Array<number>(3 * room).fill(none)];
  const values = random.normals(3 * rows * vocab);
  const biases = random.normals(vocab);
  const u32 = (shape: readonly number[], words: readonly number[]) =>
    keep(device.upload('u32', shape, Uint32Array.from(words)));
  return {
    ...{ values, biases },
    batch: keep(uploadBatch(device, [], 3 * rows)),
    sequences: u32([3, sequenceWords], sequences),
    states: u32(
      [3, stateWords],
      penalties.flatMap(() => [...encodeState(prompt.length)]),
    ),
    history: u32([history.length], history),
    counts: u32([3, vocab], [...seen, ...seen, ...seen]),
    logits: keep(device.upload('f32', [3 * rows, vocab], values)),
    bias: keep(device.upload('f32', [vocab], biases)),
    adjusted: keep(device.tensor('f32', [3 * rows, vocab])),
  };
}

/** Says where a sequence's pending token is: its own token of this index, −1 for the prompt's last. */
function moveTo(device: Device, { states }: World, sequence: number, index: number): void {
  device.write(states, Uint32Array.of(prompt.length + index), 4 * stateWords * sequence);
}

/** Own tokens of a sequence, from index 0 on. */
function write(device: Device, { history }: World, sequence: number, words: readonly number[]): void {
  device.write(history, Uint32Array.from(words), 4 * own(sequence, 0));
}

/** Adjusts rows of each sequence, the first of them at its own token of this index. */
async function adjusted(device: Device, world: World, first: readonly number[]): Promise<Float32Array> {
  const places = first.flatMap((index, sequence) =>
    Array.from({ length: rows }, (_, j) => ({ position: prompt.length + index + j, sequence })),
  );
  const batch = uploadBatch(device, places, 3 * rows);
  await compute(device, (pass) => adjust(pass, { ...world, batch }, { vocab, rows: 3 * rows }));
  batch.destroy();
  return device.read(world.adjusted);
}

/** The same, where `said` is what each sequence has said up to each of its rows. */
function expected(world: World, said: (sequence: number, row: number) => readonly number[]): number[] {
  return penalties.flatMap((penalty, sequence) =>
    Array.from({ length: rows }, (_, row) => {
      const at = (sequence * rows + row) * vocab;
      const seen = { prompt, output: said(sequence, row) };
      return adjustReference(world.values.subarray(at, at + vocab), world.biases, seen, penalty);
    }).flat(),
  );
}

/** Own tokens of each sequence: prompt tokens, tokens twice, the lowest and the highest. */
const texts = [
  [9, 64, 9, 2, 0, 70, 9, 5],
  [70, 70, 64, 1, 33, 64, 8, 8],
  [0, 3, 3, 3, 1, 2, 69, 0],
];

await eachTier((device) => {
  test('philox4x32-10 gives the known answers of Random123', async () => {
    const { own: keep, destroy } = scope();
    const body = /* wgsl */ `
      @group(0) @binding(0) var<storage, read> counters: array<vec4u>;
      @group(0) @binding(1) var<storage, read> keys: array<vec2u>;
      @group(0) @binding(2) var<storage, read_write> y: array<vec4u>;
      @compute @workgroup_size(1) fn main(@builtin(workgroup_id) id: vec3u) {
        y[id.x] = philox(counters[id.x], keys[id.x]);
      }`;
    const ones = 0xffffffff;
    const pi = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0];
    const counters = Uint32Array.from([0, 0, 0, 0, ones, ones, ones, ones, ...pi.slice(0, 4)]);
    const y = keep(device().tensor('u32', [3, 4]));
    const inputs = {
      counters: keep(device().upload('u32', [3, 4], counters)),
      keys: keep(device().upload('u32', [3, 2], Uint32Array.from([0, 0, ones, ones, ...pi.slice(4)]))),
    };
    const code = kernel('philox', {}, philoxChunk, body);
    await compute(device(), (pass) => pass.run(code, { ...inputs, y }, [3]));
    expect(Array.from(await device().read(y), (word) => word.toString(16).padStart(8, '0'))).toEqual([
      ...['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8'],
      ...['408f276d', '41c83b0e', 'a20bc7c6', '6d5451fd'],
      ...['d16cfe09', '94fdcceb', '5001e420', '24126ea1'],
    ]);
    destroy();
  });

  describe('bias and penalties', () => {
    test('count what was said up to a row: guesses for those after them, empty places nothing', async () => {
      const kept = scope();
      const world = createWorld(device(), kept);
      // Sequence 0 is at the prompt's last token, its guesses of three origins; 1 has a place without a guess; 2 none.
      const guesses = [texts[0]!.slice(0, 3), [], []];
      write(
        device(),
        world,
        0,
        guesses[0]!.map((token, i) => guess(token, i + 1)),
      );
      write(device(), world, 1, [...texts[1]!.slice(0, 3), guess(33, 2), none, guess(64, 255)]);
      write(device(), world, 2, [...texts[2]!.slice(0, 5), none, none, none, 33]);
      const first = [-1, 2, 4];
      first.forEach((index, sequence) => moveTo(device(), world, sequence, index));
      const said = [
        [[], ...[1, 2, 3].map((count) => texts[0]!.slice(0, count))],
        [texts[1]!.slice(0, 3), [70, 70, 64, 33], [70, 70, 64, 33], [70, 70, 64, 33, 64]],
        new Array<number[]>(4).fill(texts[2]!.slice(0, 5)),
      ];
      const result = await adjusted(device(), world, first);
      expectClose(
        result,
        expected(world, (sequence, row) => said[sequence]![row]!),
        tolerance.f32,
      );
      kept.destroy();
    });

    test('tally counts what was decided, once; what was rejected leaves no trace', async () => {
      const kept = scope();
      const world = createWorld(device(), kept);
      const add = () => compute(device(), (pass) => tally(pass, world, { vocab }));
      // Own tokens that each sequence has after each round, of which the last is pending.
      const lengths = [
        [1, 0, 3],
        [1, 4, 4],
        [5, 5, 8],
      ];
      for (const now of lengths) {
        now.forEach((length, sequence) => {
          const rejected = [30, 31, 30].map((token) => guess(token, 1));
          write(device(), world, sequence, [...texts[sequence]!.slice(0, length), ...rejected]);
          moveTo(device(), world, sequence, length - 1);
        });
        // What no one overwrites is guessed again.
        const said = (sequence: number, row: number) => [
          ...texts[sequence]!.slice(0, now[sequence]),
          ...[30, 31, 30].slice(0, row),
        ];
        const first = now.map((length) => length - 1);
        const before = await adjusted(device(), world, first);
        expectClose(before, expected(world, said), tolerance.f32);
        await add();
        expect(await adjusted(device(), world, first)).toEqual(before);
        await add();
        expect(await adjusted(device(), world, first)).toEqual(before);
      }
      const counts = await device().read(world.counts);
      const states = await device().read(world.states);
      texts.forEach((text, sequence) => {
        const decided = text.slice(0, lengths.at(-1)![sequence]! - 1);
        const times = Array.from({ length: vocab }, (_, token) => {
          const said = decided.filter((other) => other === token).length;
          return said + (prompt.includes(token) ? inPrompt : 0);
        });
        expect([...counts.subarray((2 - sequence) * vocab, (3 - sequence) * vocab)]).toEqual(times);
        const position = prompt.length + decided.length;
        expect([...states.subarray(sequence * stateWords, (sequence + 1) * stateWords)]).toEqual([
          ...[position, 0, position, prompt.length - 1],
        ]);
      });
      kept.destroy();
    });

    test('tokens of the prompt are not generated, whatever the state says', async () => {
      const kept = scope();
      const world = createWorld(device(), kept);
      // States as zeros leave them: nothing counted, not even the prompt.
      device().write(world.states, new Uint32Array(3 * stateWords));
      [0, 1, 2].forEach((sequence) => moveTo(device(), world, sequence, -1));
      const untouched = await device().read(world.counts);
      await compute(device(), (pass) => tally(pass, world, { vocab }));
      expect(await device().read(world.counts)).toEqual(untouched);
      device().write(world.states, new Uint32Array(3 * stateWords));
      const result = await adjusted(device(), world, [-1, -1, -1]);
      expectClose(
        result,
        expected(world, () => []),
        tolerance.f32,
      );
      kept.destroy();
    });
  });
});
