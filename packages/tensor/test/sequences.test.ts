import {
  adjust,
  advance,
  compact,
  encodeSequence,
  finishedWord,
  kernel,
  sequenceWords,
  status,
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
  type TestRow,
} from '@ensample/testing';
import { describe, expect, test } from 'vitest';
import { philox } from '../src/kernels/sample.wgsl.ts';

const settings: SequenceSampling = {
  seed: 0,
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  start: 5,
  end: 20,
  counts: 0,
};

function sequencesOf(
  device: Device,
  list: readonly Partial<SequenceSampling>[],
  finished: readonly number[] = [],
) {
  const words = Uint32Array.from(list.flatMap((one) => [...encodeSequence({ ...settings, ...one })]));
  for (const index of finished) words[index * sequenceWords + finishedWord] = 1;
  return device.upload<'u32'>('u32', [list.length, sequenceWords], words);
}

await eachTier((device) => {
  test('philox4x32-10 gives the known answers of Random123', async () => {
    const { own, destroy } = scope();
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
    const y = own(device().tensor('u32', [3, 4]));
    const inputs = {
      counters: own(device().upload('u32', [3, 4], counters)),
      keys: own(device().upload('u32', [3, 2], Uint32Array.from([0, 0, ones, ones, ...pi.slice(4)]))),
    };
    await compute(device(), (pass) => pass.run(kernel('philox', {}, philox, body), { ...inputs, y }, [3]));
    expect(Array.from(await device().read(y), (word) => word.toString(16).padStart(8, '0'))).toEqual([
      ...['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8'],
      ...['408f276d', '41c83b0e', 'a20bc7c6', '6d5451fd'],
      ...['d16cfe09', '94fdcceb', '5001e420', '24126ea1'],
    ]);
    destroy();
  });

  test('adjust applies bias and penalties, and counts what was generated', async () => {
    const { own, destroy } = scope();
    const random = seeded(3);
    const vocab = 71;
    const penalties = [
      { repetitionPenalty: 1.3, presencePenalty: 0, frequencyPenalty: 0 },
      { repetitionPenalty: 1, presencePenalty: 0.7, frequencyPenalty: 0.4 },
      { repetitionPenalty: 0.8, presencePenalty: -0.5, frequencyPenalty: 1.5 },
    ];
    const prompts = [[1, 2, 70], [5], []];
    // Inputs of successive steps: the first is the prompt's last token, the others were generated.
    const steps = [
      [70, 5, 0],
      [9, 64, 9],
      [9, 64, 1],
      [2, 5, 9],
    ];
    const counts = new Uint32Array(3 * vocab);
    prompts.forEach((prompt, s) => prompt.forEach((token) => (counts[(2 - s) * vocab + token] = 2 ** 31)));
    const bias = random.normals(vocab);
    const logits = random.normals(4 * vocab);
    const shared = {
      sequences: own(
        sequencesOf(
          device(),
          penalties.map((p, s) => ({ ...p, counts: 2 - s })),
        ),
      ),
      logits: own(device().upload('f32', [4, vocab], logits)),
      bias: own(device().upload('f32', [vocab], bias)),
      counts: own(device().upload('u32', [3, vocab], counts)),
      adjusted: own(device().tensor('f32', [4, vocab])),
    };
    for (const [step, tokens] of steps.entries()) {
      const rows = tokens.map((token, sequence) => ({
        token,
        sequence,
        position: settings.start - 1 + step,
      }));
      const batch = own(uploadBatch(device(), rows, 4));
      await compute(device(), (pass) => adjust(pass, { ...shared, batch }, { vocab, rows: 4 }));
    }
    const result = await device().read(shared.adjusted);
    const expected = penalties.flatMap((p, s) => {
      const output = steps.slice(1).map((tokens) => tokens[s]!);
      return adjustReference(
        logits.subarray(s * vocab, (s + 1) * vocab),
        bias,
        { prompt: prompts[s]!, output },
        p,
      );
    });
    expectClose(result.subarray(0, 3 * vocab), expected, tolerance.f32);
    expect(result.subarray(3 * vocab)).toEqual(new Float32Array(vocab));
    const counted = await device().read(shared.counts);
    expect(counted[2 * vocab + 9]).toBe(2);
    expect(counted[2 * vocab + 70]).toBe(2 ** 31);
    expect(counted[vocab + 5]).toBe(2 ** 31 + 1);
    destroy();
  });

  describe('advance', () => {
    /** One step: what the batch, the results and the finished flags are after it. */
    async function step(
      rows: readonly TestRow[],
      picks: readonly number[],
      finished: readonly number[] = [],
    ) {
      const { own, destroy } = scope();
      const count = rows.length;
      const tensors = {
        batch: own(uploadBatch(device(), rows)),
        sequences: own(
          sequencesOf(
            device(),
            rows.map(() => ({})),
            finished,
          ),
        ),
        picks: own(
          device().upload('u32', [count, 4], Uint32Array.from(picks.flatMap((p) => [p, 1000 + p, 0, 0]))),
        ),
        stops: own(device().upload('u32', [3], Uint32Array.from([2, 90, 91]))),
        results: own(device().tensor('u32', [count, 4])),
      };
      await compute(device(), (pass) => advance(pass, tensors));
      const chunks = (words: Uint32Array) =>
        Array.from({ length: words.length / 4 }, (_, i) => [...words.slice(4 * i, 4 * i + 4)]);
      const [head, ...batch] = chunks(await device().read(tensors.batch));
      const words = await device().read(tensors.sequences);
      const flags = rows.map((_, s) => words[s * sequenceWords + finishedWord]!);
      const results = chunks(await device().read(tensors.results));
      destroy();
      return { rows: head![0]!, batch, flags, results };
    }

    test('a pick becomes the next input; stop tokens, the end and finished rows', async () => {
      const rows = [
        { token: 7, position: 9, leaf: 3, sequence: 0 },
        { token: 7, position: 9, leaf: 4, sequence: 1 }, // draws a stop token
        { token: 7, position: 18, leaf: 5, sequence: 2 }, // reaches its end, 20
        { token: 7, position: 17, leaf: 6, sequence: 3 }, // one before it
        { token: 7, position: 18, leaf: 7, sequence: 4 }, // both at once: the token decides
        { token: 7, position: 9, leaf: 8, sequence: 5 }, // had stopped before
      ];
      const after = await step(rows, [11, 90, 12, 13, 91, 14], [5]);
      expect(after.rows).toBe(6);
      expect(after.flags).toEqual([0, 1, 1, 0, 1, 1]);
      expect(after.batch).toEqual([
        [11, 10, 3, 0],
        [7, 9, 4, 1], // rows that stop stay as they were: idling, they write again what they wrote
        [7, 18, 5, 2],
        [13, 18, 6, 3],
        [7, 18, 7, 4],
        [7, 9, 8, 5],
      ]);
      expect(after.results).toEqual([
        [11, 1011, status.running, 10],
        [90, 1090, status.stop, 10],
        [12, 1012, status.length, 19],
        [13, 1013, status.running, 18],
        [91, 1091, status.stop, 19],
        [14, 1014, status.idle, 10],
      ]);
    });

    test('when all have stopped, no rows are left for later steps', async () => {
      const rows = Array.from({ length: 70 }, (_, sequence) => ({ position: 6, sequence }));
      const finished = rows.map((_, i) => i).filter((i) => i !== 69);
      expect(
        (
          await step(
            rows,
            rows.map(() => 1),
            finished,
          )
        ).rows,
      ).toBe(70);
      expect(
        (
          await step(
            rows,
            rows.map((_, i) => (i === 69 ? 90 : 1)),
            finished,
          )
        ).rows,
      ).toBe(0);
    });
  });

  test('compact keeps some rows, in a new order', async () => {
    const { own, destroy } = scope();
    const rows = Array.from({ length: 200 }, (_, i) => ({
      token: i,
      position: 2 * i,
      leaf: 3,
      sequence: 500 - i,
    }));
    const kept = rows
      .map((_, i) => i)
      .filter((i) => i % 3 === 1)
      .reverse();
    const moves = Uint32Array.from([kept.length, 0, ...kept.flatMap((i) => [i, i % 7])]);
    const tensor = own(device().upload('u32', [201, 2], new Uint32Array(402)));
    device().write(tensor, moves);
    const batch = own(uploadBatch(device(), rows));
    await compute(device(), (pass) => compact(pass, { batch, moves: tensor }));
    const words = await device().read(batch);
    expect(words[0]).toBe(kept.length);
    expect([...words.slice(4, 4 + 4 * kept.length)]).toEqual(kept.flatMap((i) => [i, 2 * i, i % 7, 500 - i]));
    // Once all have stopped (0 rows), none come back.
    device().write(batch, Uint32Array.of(0));
    await compute(device(), (pass) => compact(pass, { batch, moves: tensor }));
    expect((await device().read(batch))[0]).toBe(0);
    destroy();
  });
});
