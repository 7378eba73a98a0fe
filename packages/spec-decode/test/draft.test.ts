import { sample, sequenceWords } from '@ensample/tensor';
import {
  compute,
  eachTier,
  expectClose,
  samplingReference,
  scope,
  seeded,
  tolerance,
} from '@ensample/testing';
import { expect, test } from 'vitest';
import { advanceDraft, keepLaw } from '../src/index.ts';
import {
  createWorld,
  guessWord,
  integers,
  none,
  readRows,
  sequencesOf,
  shuffled,
  uploadRows,
} from './world.ts';

await eachTier((device) => {
  test('advanceDraft: a draw becomes the guess and the next input, unless there is a guess already', async () => {
    const random = seeded(1);
    for (const [slots, each] of [
      [1, 1],
      [3, 4],
      [70, 2],
      [256, 3],
    ] as const) {
      const { own, destroy } = scope();
      const prompt = integers(random, 4, 100);
      const samples = Array.from({ length: slots + 2 }, () => {
        const position = prompt.length - 1 + random.integer(8);
        const words = Array.from({ length: 20 }, (_, i) =>
          prompt.length + i > position && random.integer(2) === 0 ? none : guessWord(random.integer(100), 1),
        );
        return { position, end: position + 2 + random.integer(4), words };
      });
      const running = shuffled(random, [...samples.keys()]).slice(0, slots);
      const { tensors, history, at } = createWorld(device(), own, {
        prompt,
        samples,
        room: 20,
        running,
        rows: 4,
      });
      const expected = [...history];
      const inputs = running.map((q) => ({ q, leaf: random.integer(1000), position: samples[q]!.position }));
      // The first step has what the model lacks in front of the pending token.
      const rows = inputs.flatMap(({ q, leaf, position }) =>
        Array.from({ length: each }, (_, i) => [500, Math.max(0, position - each + 1 + i), leaf, q]),
      );
      const batch = uploadRows(device(), own, rows, each);
      for (const rowsEach of [each, 1, 1]) {
        const picks = integers(random, slots * rowsEach, 100);
        const words = Uint32Array.from(picks.flatMap((token) => [token, 7, 7, 7]));
        const drawn = own(device().upload('u32', [picks.length, 4], words));
        await compute(device(), (pass) =>
          advanceDraft(pass, { ...tensors, batch, picks: drawn }, { origin: 3 }),
        );
        const next = inputs.map((input, i) => {
          const { q, leaf } = input;
          const place = at(q, input.position + 1);
          if (input.position + 1 === samples[q]!.end) return undefined; // the row stays as it is
          if (expected[place] === none) expected[place] = guessWord(picks[(i + 1) * rowsEach - 1]!, 3);
          input.position++;
          return [expected[place]! & 0xffffff, input.position, leaf, q];
        });
        const [head, ...after] = await readRows(device(), batch, 4);
        expect(head).toEqual([slots, 1, 0, 0]);
        next.forEach((row, i) => {
          const { q, leaf, position } = inputs[i]!;
          if (row) expect(after[i]).toEqual(row);
          else expect(after[i]!.slice(1)).toEqual([position, leaf, q]);
        });
        expect([...(await device().read(tensors.history))]).toEqual(expected);
      }
      destroy();
    }
  });

  test('keepLaw writes down what each guess was drawn from: temperature, filters, one token where greedy', async () => {
    const { own, destroy } = scope();
    const random = seeded(2);
    const [vocab, guesses, each] = [37, 3, 2];
    const off = { temperature: 1, topK: 0, topP: 1, minP: 0 };
    const filters = [
      off,
      { ...off, temperature: 0.4 },
      { ...off, temperature: 1.7, topK: 5 },
      { ...off, topP: 0.6 },
      { ...off, minP: 0.1 },
      { temperature: 0.8, topK: 20, topP: 0.9, minP: 0.02 },
      { ...off, temperature: 0 },
      off, // has more guesses than there is room for
    ];
    const places = [0, 2, 1, 0, 2, 1, 1, guesses];
    const samples = filters.map((sampling, i) => ({ position: 3 + i, sampling }));
    const parts = { prompt: [1, 2, 3], samples, room: 20, rows: 4, spare: 1 };
    const { tensors } = createWorld(device(), own, parts);
    // Samples in another order than their slots; the last of the rows of each counts.
    const order = shuffled(random, [...samples.keys()]);
    const rows = order.flatMap((q) => [
      [0, 0, 0, q],
      [0, 3 + q + places[q]!, 0, q],
    ]);
    const batch = uploadRows(device(), own, rows, each);
    const logits = Float32Array.from({ length: rows.length * vocab }, () => 6 * random.uniform());
    // Two tokens are the likeliest: a greedy draft takes the first.
    for (const r of rows.keys())
      logits[(r + 1) * vocab - 1] = Math.max(...logits.subarray(r * vocab, (r + 1) * vocab));
    const adjusted = own(device().upload('f32', [rows.length, vocab], logits));
    const picks = own(device().tensor('u32', [rows.length, 4]));
    const shape = [samples.length + 1, guesses, vocab];
    const size = shape.reduce((a, b) => a * b);
    const tensor = own(device().upload('f32', shape, new Float32Array(size).fill(-1)));
    const words = sequencesOf(parts);
    const sequences = own(device().upload('u32', [words.length / sequenceWords, sequenceWords], words));
    await compute(device(), (pass) => {
      sample(pass, { batch, sequences, logits: adjusted, adjusted, picks }, { vocab, rows: rows.length });
      // Grids are made for more samples than run.
      const keeping = { ...tensors, batch, adjusted, picks, laws: { tensor, guesses } };
      keepLaw(pass, keeping, { vocab, samples: 16 });
    });
    const expected = new Array<number>(size).fill(-1);
    order.forEach((q, slot) => {
      const row = logits.slice((slot * each + 1) * vocab, (slot * each + 2) * vocab);
      const largest = row.indexOf(Math.max(...row));
      const { temperature } = filters[q]!;
      const law =
        temperature > 0
          ? samplingReference(row, filters[q]!)
          : [...row.keys()].map((i) => Number(i === largest));
      if (places[q]! < guesses) expected.splice((q * guesses + places[q]!) * vocab, vocab, ...law);
    });
    const laws = await device().read(tensor);
    expectClose(laws, expected, tolerance.f32);
    expect([...laws].map((p) => p === 0)).toEqual(expected.map((p) => p === 0));
    destroy();
  });
});
