import { InvalidOptionError, type Device } from '@ensample/tensor';
import {
  eachTier,
  promptLookupReference,
  scope,
  seeded,
  siblingLookupReference,
  type Random,
} from '@ensample/testing';
import { describe, expect, test } from 'vitest';
import { promptLookup, siblingLookup, type DraftStrategy, type LookupOptions } from '../src/index.ts';
import { createWorld, guessWord, integers, none, propose, shuffled, type WorldParts } from './world.ts';

/** Samples, places for guesses and tokens of the alphabet: few of these, so that runs are long and equals many. */
const shapes = [
  [1, 4, 1],
  [1, 32, 2],
  [2, 7, 2],
  [5, 1, 3],
  [9, 16, 1],
  [12, 5, 4],
  [30, 9, 2],
  [70, 12, 3],
] as const;

/**
 * Samples in the middle of a run, as strategies find them after `clearGuesses` and a strategy before them: some at
 * their first token, some stopped, some with few places left, some not in the batch; behind the places of the round
 * stands what earlier ones have left.
 */
function randomParts(random: Random, [slots, length, alphabet]: (typeof shapes)[number]): WorldParts {
  const prompt = integers(random, 1 + random.integer(100), alphabet);
  const room = 120;
  const samples = Array.from({ length: slots + random.integer(3) }, () => {
    const own = random.integer(4) === 0 ? 0 : random.integer(70);
    const position = prompt.length - 1 + own;
    const earlier = random.integer(2) * random.integer(length + 1);
    const words = integers(random, room, alphabet).map((token, i) => {
      if (i < own) return token;
      const clean = i >= own + earlier && i < own + length;
      return clean ? none : guessWord(token, 1);
    });
    const finished = random.integer(5) === 0;
    const few = random.integer(3) === 0;
    const end = position + 1 + (finished ? 0 : 1) + (few ? random.integer(length) : length);
    return { position, end, finished, words };
  });
  const running = shuffled(random, [...samples.keys()]).slice(0, slots);
  return { prompt, samples, room, running, rows: length + 1, spare: random.integer(3) };
}

/** The history after the strategy, and as it was. */
async function guessed(device: Device, strategy: DraftStrategy, parts: WorldParts) {
  const { own, destroy } = scope();
  const world = createWorld(device, own, parts);
  const samples = 2 ** Math.ceil(Math.log2((parts.running ?? parts.samples).length));
  const round = { device, tensors: world.tensors, length: parts.rows - 1, samples, origin: 2 };
  const names = await propose(strategy, round);
  const after = [...(await device.read(world.tensors.history))];
  destroy();
  return { world, names, after };
}

/** Fails where the strategy's guesses in random worlds are not the reference's. */
async function check(
  device: Device,
  strategy: DraftStrategy,
  reference: (texts: number[][], own: number, prompt: number, length: number) => number[],
): Promise<void> {
  const random = seeded(5);
  let found = 0;
  for (const shape of [...shapes, ...shapes]) {
    const parts = randomParts(random, shape);
    const { world, names, after } = await guessed(device, strategy, parts);
    expect(names).toEqual([strategy.name]);
    const said = parts.samples.map((_, sample) => world.text(sample).tokens);
    const expected = [...world.history];
    for (const sample of parts.running ?? []) {
      const { position, end = 1000, finished } = parts.samples[sample]!;
      const { tokens, guesses } = world.text(sample, parts.rows);
      const first = position + 1 + guesses;
      const length = Math.min(position + parts.rows, end) - first;
      if (finished || length <= 0) continue;
      const texts = said.map((text, i) => (i === sample ? tokens : text));
      const proposed = reference(texts, sample, parts.prompt.length, length);
      proposed.forEach((token, i) => (expected[world.at(sample, first + i)] = guessWord(token, 2)));
      found += proposed.length;
    }
    expect(after).toEqual(expected);
  }
  expect(found).toBeGreaterThan(200);
}

/** The defaults, and the least and the most of either. */
const optionSets: LookupOptions[] = [{}, { longest: 63, shortest: 1 }, { longest: 2, shortest: 2 }];

await eachTier((device) => {
  describe.each(optionSets)('%o', ({ longest = 8, shortest = 3 }) => {
    const options = { longest, shortest };

    test('prompt lookup goes on as the prompt or the sample itself did', async () => {
      await check(device(), promptLookup(options), (texts, own, _, length) =>
        promptLookupReference(texts[own]!, { ...options, length }),
      );
    });

    test('sibling lookup goes on as another sample did', async () => {
      await check(device(), siblingLookup(options), (texts, own, prompt, length) => {
        const others = texts.filter((_, i) => i !== own);
        return siblingLookupReference(texts[own]!, others, prompt, { ...options, length });
      });
    });
  });

  /** Guesses of sample 0, whose text is given like that of the others: prompt, and what each has said. */
  async function guesses(
    strategy: DraftStrategy,
    prompt: readonly number[],
    own: readonly (readonly number[])[],
    finished: readonly number[] = [],
  ): Promise<number[]> {
    const samples = own.map((words, i) => ({
      ...{ position: prompt.length - 1 + words.length, words, finished: finished.includes(i) },
    }));
    const parts = { prompt, samples, room: 40, running: [0], rows: 9 };
    const { world, after } = await guessed(device(), strategy, parts);
    const first = samples[0]!.position + 1;
    const words = Array.from({ length: 8 }, (_, i) => after[world.at(0, first + i)]!);
    return words.filter((word) => word !== none).map((word) => word - guessWord(0, 2));
  }

  test('prompt lookup: the longest run, the last of equals, around and around', async () => {
    const lookup = promptLookup();
    expect(await guesses(lookup, [1, 2, 3, 4, 5, 6, 7, 2, 3, 4], [[]])).toEqual([5, 6, 7, 2, 3, 4, 5, 6]);
    expect(await guesses(lookup, [9, 1, 2, 3, 5, 8, 1, 2, 3, 6], [[9, 1, 2, 3]])).toEqual([
      ...[5, 8, 1, 2, 3, 6, 9, 1],
    ]);
    expect(await guesses(lookup, [1, 2, 3, 5, 1, 2, 3, 6], [[1, 2, 3]])).toEqual([6, 1, 2, 3, 6, 1, 2, 3]);
    expect(await guesses(lookup, [1, 2, 3, 4, 5, 2, 3], [[]])).toEqual([]);
  });

  test('sibling lookup: what another has said, up to where it is, also when it has stopped; not the prompt or itself', async () => {
    const lookup = siblingLookup();
    const prompt = [1, 2, 3, 4, 1, 2, 3];
    expect(await guesses(lookup, prompt, [[], []])).toEqual([]);
    expect(await guesses(lookup, prompt, [[], [7, 8, 9]])).toEqual([7, 8, 9]);
    expect(await guesses(lookup, prompt, [[], [7, 8, 9]], [1])).toEqual([7, 8, 9]);
    expect(await guesses(lookup, prompt, [[], [7, 8], [6]])).toEqual([6]);
    expect(
      await guesses(lookup, prompt, [
        [7, 8],
        [7, 8, 9, 7],
        [6, 3, 7, 8, 5],
      ]),
    ).toEqual([9, 7]);
  });
});

describe('options out of their range are refused', () => {
  test.each([
    [{ shortest: 0 }, 'shortest is 0 and longest 8'],
    [{ longest: 2 }, 'shortest is 3 and longest 2'],
    [{ longest: 64 }, 'shortest is 3 and longest 64'],
    [{ shortest: 1.5 }, 'shortest is 1.5'],
    [{ longest: NaN }, 'longest NaN'],
  ])('%o', (options, message) => {
    for (const [make, name] of [
      [promptLookup, 'prompt-lookup'],
      [siblingLookup, 'sibling-lookup'],
    ] as const) {
      expect(() => make(options)).toThrow(InvalidOptionError);
      expect(() => make(options)).toThrow(`${name}: `);
      expect(() => make(options)).toThrow(message);
      expect(() => make(options)).toThrow('1 ≤ shortest ≤ longest ≤ 63');
    }
  });
});
