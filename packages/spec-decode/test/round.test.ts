import type { Device } from '@ensample/tensor';
import { acceptReference, compute, eachTier, scope, seeded, type Random } from '@ensample/testing';
import { describe, expect, test } from 'vitest';
import { accept, clearGuesses, layOutRows, status } from '../src/index.ts';
import {
  createWorld,
  guessWord,
  integers,
  none,
  readRows,
  shuffled,
  uploadRows,
  type TestSample,
  type WorldParts,
} from './world.ts';

const vocab = 50;

/** Samples, and rows of each: one, more than a workgroup has invocations, the most of both. */
const shapes = [
  [1, 1],
  [1, 33],
  [3, 2],
  [65, 5],
  [100, 1],
  [40, 9],
  [256, 33],
] as const;

interface RandomParts extends WorldParts {
  readonly running: readonly number[];
  readonly samples: readonly (TestSample & { end: number; finished: boolean; words: number[] })[];
}

/**
 * Samples in the middle of a run: prompts and texts of any length, some with few places left, some stopped, most with
 * guesses, which may have holes and are followed by what earlier rounds have left. Some have left the batch.
 */
function randomParts(random: Random, slots: number, rows: number): RandomParts {
  const prompt = integers(random, 1 + random.integer(6), vocab);
  const start = prompt.length;
  const room = 64;
  const samples = Array.from({ length: slots + random.integer(3) }, () => {
    const position = start - 1 + random.integer(20);
    const finished = random.integer(6) === 0;
    const words = Array.from({ length: room }, (_, i) => {
      const token = random.integer(vocab);
      if (start + i <= position) return token;
      return random.integer(8) === 0 ? none : guessWord(token, 1 + random.integer(3));
    });
    const end = position + (finished ? 1 : 2) + random.integer(rows + 4);
    return { position, finished, words, end, stored: random.integer(position + 1) };
  });
  const running = shuffled(random, [...samples.keys()]).slice(0, slots);
  return { prompt, samples, room, running, rows };
}

await eachTier((device) => {
  test('clearGuesses empties the places of a round, and no others', async () => {
    const random = seeded(1);
    for (const [slots, rows] of shapes) {
      const { own, destroy } = scope();
      const parts = randomParts(random, slots, rows);
      const { tensors, history, at } = createWorld(device(), own, parts);
      await compute(device(), (pass) => clearGuesses(pass, tensors));
      const expected = [...history];
      for (const sample of parts.running) {
        const { position, end } = parts.samples[sample]!;
        for (let guess = 1; guess < rows; guess++)
          if (position + guess < end) expected[at(sample, position + guess)] = none;
      }
      expect([...(await device().read(tensors.history))]).toEqual(expected);
      destroy();
    }
  });

  describe('layOutRows', () => {
    /** The batch that it writes, into one that holds other rows; the first entry is (rows, rows of each, …). */
    async function layOut(parts: WorldParts, whose?: 'target' | 'draft') {
      const { own, destroy } = scope();
      const world = createWorld(device(), own, parts);
      const capacity = (parts.running ?? parts.samples).length * parts.rows;
      const junk = Array.from({ length: capacity }, () => [9, 9, 9, 9]);
      const batch = uploadRows(device(), own, junk, 77);
      await compute(device(), (pass) => layOutRows(pass, { ...world.tensors, batch }, whose));
      const [head, ...rows] = await readRows(device(), batch, 4);
      destroy();
      return { world, head, rows };
    }

    test('target: the pending token, then the guesses; past the end the last row again', async () => {
      const random = seeded(2);
      for (const [slots, rows] of shapes) {
        const parts = randomParts(random, slots, rows);
        const result = await layOut(parts);
        const { history, at } = result.world;
        const expected = parts.running.flatMap((sample) => {
          const { position, end } = parts.samples[sample]!;
          const places = Array.from({ length: Math.min(rows, end - position) }, (_, j) => position + j);
          while (places.length < rows) places.push(end - 1);
          return places.map((place) => {
            const word = history[at(sample, place)]!;
            const pending = history[at(sample, position)]!;
            return [(word === none ? pending : word) & 0xffffff, place, 1000 + sample, sample];
          });
        });
        expect(result.rows).toEqual(expected);
        const someRun = parts.running.some((sample) => !parts.samples[sample]!.finished);
        expect(result.head).toEqual([someRun ? slots * rows : 0, rows, 0, 0]);
      }
    });

    test('draft: the pending token last, before it what the draft model lacks, the first of them again', async () => {
      const random = seeded(3);
      for (const [slots, rows] of shapes) {
        const parts = randomParts(random, slots, rows);
        const result = await layOut(parts, 'draft');
        const { history, at } = result.world;
        const expected = parts.running.flatMap((sample) => {
          const { position, stored = 0 } = parts.samples[sample]!;
          const lacking = Array.from({ length: position + 1 - stored }, (_, i) => stored + i).slice(-rows);
          while (lacking.length < rows) lacking.unshift(lacking[0]!);
          return lacking.map((place) => [history[at(sample, place)]!, place, 1000 + sample, sample]);
        });
        expect(result.rows).toEqual(expected);
      }
    });

    test('no rows are left once all samples have stopped, and not before', async () => {
      for (const running of [undefined, 0, 69, 255]) {
        const samples = Array.from({ length: 256 }, (_, i) => ({ position: 2, finished: i !== running }));
        const { head } = await layOut({ prompt: [1, 2, 3], samples, room: 8, rows: 3 });
        expect(head).toEqual([running === undefined ? 0 : 768, 3, 0, 0]);
      }
    });
  });

  test('accept keeps guesses while they equal the draws: results, states and history of random rounds', async () => {
    const random = seeded(4);
    const met = new Set<number>();
    for (const [slots, rows] of [...shapes, ...shapes.slice(1, -1)])
      for (const one of await checkAccept(device(), random, slots, rows)) met.add(one);
    expect([...met].sort()).toEqual(Object.values(status));
  });
});

/** Draws that equal the guesses for a while, and stop tokens and ends anywhere. Returns what became of each row. */
async function checkAccept(device: Device, random: Random, slots: number, rows: number): Promise<number[]> {
  const { own, destroy } = scope();
  const parts = randomParts(random, slots, rows);
  const stops = integers(random, random.integer(4), vocab);
  const { prompt, samples, running } = parts;
  const guesses = samples.map(({ position, end, words }) => {
    const first = position + 1 - prompt.length;
    if (rows > 1 && random.integer(6) === 0)
      words[first + random.integer(rows - 1)] = guessWord(vocab + random.integer(2) * 1000, 2);
    return Array.from({ length: rows - 1 }, (_, j) => (position + 1 + j < end ? words[first + j]! : none));
  });
  const draws = running.map((sample) => {
    const equal = random.integer(rows + 1);
    return Array.from({ length: rows }, (_, j) => {
      const guess = (guesses[sample]![j] ?? none) & 0xffffff;
      return j < equal && guess < vocab ? guess : random.integer(vocab);
    });
  });
  const picks = draws.flat().map((token, r) => [token, 5000 + r, 7, 7]);
  const { tensors, history, states, at } = createWorld(device, own, parts);
  const shape = [picks.length, 4];
  const accepting = {
    ...tensors,
    picks: own(device.upload('u32', shape, Uint32Array.from(picks.flat()))),
    stops: own(device.upload('u32', [1 + stops.length], Uint32Array.of(stops.length, ...stops))),
    results: own(device.upload('u32', shape, new Uint32Array(picks.length * 4).fill(99))),
  };
  await compute(device, (pass) => accept(pass, accepting, { vocab }));

  const expected = { history: [...history], states: [...states], results: [] as number[][] };
  running.forEach((sample, slot) => {
    const { position, end, finished, stored = 0 } = samples[sample]!;
    const words = guesses[sample]!;
    const accepted = finished
      ? { tokens: [], kept: 0, status: 'running' as const }
      : acceptReference({
          ...{ position, end, stops, vocab, draws: draws[slot]! },
          guesses: words.map((word) => (word === none ? undefined : word & 0xffffff)),
        });
    const { tokens, kept } = accepted;
    tokens.forEach((token, j) => (expected.history[at(sample, position + 1 + j)] = token));
    const now = position + tokens.length;
    const had = rows > 1 ? Math.max(stored, position + rows - 1) : stored;
    const state = [now, Number(finished || accepted.status !== 'running'), prompt.length, Math.min(had, now)];
    expected.states.splice(4 * sample, 4, ...state);
    for (let j = 0; j < rows; j++) {
      const word = words[j] ?? none;
      const last = j === tokens.length - 1;
      let name: keyof typeof status = j < tokens.length ? 'running' : 'idle';
      if (last) name = accepted.status;
      const token = name === 'invalid' ? word & 0xffffff : draws[slot]![j]!;
      const origin = word === none ? 0 : word >>> 24;
      expected.results.push([token, 5000 + slot * rows + j, status[name], origin + (j < kept ? 256 : 0)]);
    }
  });
  expect(await readRows(device, accepting.results, 4)).toEqual(expected.results);
  expect([...(await device.read(tensors.states))]).toEqual(expected.states);
  expect([...(await device.read(tensors.history))]).toEqual(expected.history);
  destroy();
  return expected.results.map(([, , state]) => state!);
}
