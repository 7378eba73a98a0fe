import {
  Recorder,
  sample,
  sequenceWords,
  type Device,
  type Pass,
  type SequenceSampling,
} from '@ensample/tensor';
import {
  chiSquare,
  eachTier,
  expectClose,
  logSoftmaxReference,
  rejectionReference,
  samplingReference,
  scope,
  seeded,
  tolerance,
  type Scope,
} from '@ensample/testing';
import { describe, expect, test } from 'vitest';
import { advanceDraft, coupled, keepLaw, layOutRows, rejection, type AcceptanceRule } from '../src/index.ts';
import { createWorld, guessWord, none, readRows, sequencesOf, uploadRows, type WorldParts } from './world.ts';

const vocab = 11;
const rows = 3;
const guesses = rows - 1;
const firstSeed = 9000;

const random = seeded(77);
const logitsOf = (count: number) =>
  Array.from({ length: count }, () => Float32Array.from({ length: vocab }, () => 3 * random.uniform()));
/** Of the target, for each of a sample's rows, whatever was guessed; of the draft model, for each guess. */
const target = logitsOf(rows);
const draft = logitsOf(guesses);
// Two tokens are the likeliest: a greedy target takes the first.
for (const row of target) row[vocab - 1] = Math.max(...row);
/** The target's, before bias and penalties. */
const raw = logitsOf(rows);

type Filters = Pick<SequenceSampling, 'temperature' | 'topK' | 'topP' | 'minP'>;

/** How samples get their guesses, and how the target draws. */
interface Setup {
  readonly target: Filters;
  /** How a draft model draws its guesses; without it there is none. */
  readonly draft?: Filters;
  /** Guesses that are certain, made by a strategy before the model. */
  readonly certain?: (sample: number, place: number) => number | undefined;
  /** Position at which a sample must have ended. Default 1000. */
  readonly end?: (sample: number) => number;
}

const off: Filters = { temperature: 1, topK: 0, topP: 1, minP: 0 };
const filtered: Filters = { temperature: 0.9, topK: 8, topP: 0.85, minP: 0.02 };

const setups = {
  'a cooler draft model': { target: off, draft: { ...off, temperature: 0.5 } },
  'filters, and a warmer draft model': { target: filtered, draft: { ...filtered, temperature: 1.8 } },
  'a greedy draft model': { target: off, draft: { ...off, temperature: 0 } },
  'certain guesses': { target: filtered, certain: (i, place) => (i + place) % vocab },
  'certain guesses before those of a draft model': {
    target: off,
    draft: { ...off, temperature: 0.7 },
    certain: (i, place) => (i % 3 > place ? i % 5 : undefined),
  },
  'a greedy target': { target: { ...off, temperature: 0 }, draft: off },
} satisfies Record<string, Setup>;

/** Guesses for some rows only, and places past the end, where something else may stand. */
const gaps: Setup = {
  target: off,
  certain: (i, place) => (i % 3 > place ? i % 5 : undefined),
  end: (i) => 2 + (i % 2),
};

/** What a rule made of the samples of many rounds. */
interface Outcome {
  /** A token for each of a sample's rows. */
  readonly tokens: number[][];
  readonly logProbs: number[][];
  /** Words of the history in their places. */
  readonly guesses: (readonly number[])[];
}

/** The samples of one of many rounds: every one has another seed, from {@link firstSeed} on. */
function partsOf(setup: Setup, samples: number, round = 0): WorldParts {
  return {
    ...{ prompt: [0], room: guesses, rows },
    samples: Array.from({ length: samples }, (_, i) => ({
      position: 0,
      end: setup.end?.(i) ?? 1000,
      words: Array.from({ length: guesses }, (_, place) => certainWord(setup, i, place)),
      sampling: { ...setup.target, seed: firstSeed + round * samples + i },
    })),
  };
}

type Draws = Awaited<ReturnType<typeof prepare>>;

/** All that a round needs up to its rule: the draft model's steps, the target's rows and draws. */
async function prepare(device: Device, { own }: Scope, setup: Setup, samples: number) {
  const { history, tensors: world } = createWorld(device, own, partsOf(setup, samples));
  const pending = Array.from({ length: samples }, (_, i) => [0, 0, 0, i]);
  const upload = (logits: readonly Float32Array[]) => {
    const all = pending.flatMap(() => logits.flatMap((row) => [...row]));
    return own(device.upload('f32', [all.length / vocab, vocab], Float32Array.from(all)));
  };
  const drafting = {
    ...world,
    sequences: own(device.tensor('u32', [samples, sequenceWords])),
    batch: uploadRows(device, own, pending, 1),
    picks: own(device.tensor('u32', [samples, 4])),
    laws: { tensor: own(device.tensor('f32', [samples, guesses, vocab])), guesses },
  };
  const judging = {
    ...world,
    batch: uploadRows(device, own, [...pending, ...pending, ...pending], rows),
    logits: upload(raw),
    adjusted: upload(target),
    picks: own(device.tensor('u32', [samples * rows, 4])),
    ...(setup.draft ? { laws: drafting.laws } : {}),
  };
  const recorder = new Recorder(device);
  for (const row of setup.draft ? draft : []) {
    const adjusted = upload([row]);
    sample(recorder, { ...drafting, logits: adjusted, adjusted }, { vocab, rows: samples });
    keepLaw(recorder, { ...drafting, adjusted }, { vocab, samples });
    advanceDraft(recorder, drafting, { origin: 1 });
  }
  layOutRows(recorder, judging);
  sample(recorder, judging, { vocab, rows: samples * rows });
  return { history, pending, drafting, judging, recording: await recorder.finish() };
}

/** Runs one of many rounds up to its rule. */
function begin(
  device: Device,
  setup: Setup,
  { pending, history, drafting, judging, recording }: Draws,
  round: number,
) {
  const { draft: sampling = off } = setup;
  const samples = pending.length;
  device.write(judging.sequences, sequencesOf(partsOf(setup, samples, round)));
  device.write(drafting.sequences, sequencesOf(partsOf({ ...setup, target: sampling }, samples, round)));
  device.write(drafting.batch, Uint32Array.from([samples, 1, 0, 0, ...pending.flat()]));
  device.write(judging.history, Uint32Array.from(history));
  recording.submit();
}

/** Draws with each rule what follows the same guesses. */
async function draw(
  device: Device,
  setup: Setup,
  rules: readonly AcceptanceRule[],
  { samples, rounds = 1 }: { samples: number; rounds?: number },
): Promise<Outcome[]> {
  const kept = scope();
  const draws = await prepare(device, kept, setup, samples);
  const { judging } = draws;
  const judges = rules.map((rule) => {
    const recorder = new Recorder(device);
    rule.judge?.(recorder, judging, { vocab, rows: samples * rows, model: setup.draft ? 1 : 0 });
    return recorder.finish();
  });
  const outcomes = rules.map((): Outcome => ({ tokens: [], logProbs: [], guesses: [] }));
  for (let round = 0; round < rounds; round++) {
    begin(device, setup, draws, round);
    const picks = await device.read(judging.picks);
    const [, ...words] = await device.read(judging.history);
    for (const [r, outcome] of outcomes.entries()) {
      device.write(judging.picks, picks);
      (await judges[r]!).submit();
      const judged = await readRows(device, judging.picks, 4);
      for (let i = 0; i < samples; i++) {
        const own = judged.slice(i * rows, (i + 1) * rows);
        outcome.tokens.push(own.map(([token]) => token!));
        outcome.logProbs.push([...new Float32Array(Uint32Array.from(own, ([, bits]) => bits!).buffer)]);
        outcome.guesses.push(words.slice(i * guesses, (i + 1) * guesses));
      }
    }
  }
  kept.destroy();
  return outcomes;
}

function certainWord({ certain }: Setup, i: number, place: number): number {
  const token = certain?.(i, place);
  return token === undefined ? none : guessWord(token, 2);
}

function lawOf(logits: Float32Array, filters: Filters): number[] {
  if (filters.temperature > 0) return samplingReference(logits, filters);
  const largest = logits.indexOf(Math.max(...logits));
  return oneHot(largest);
}

const oneHot = (token: number) => Array.from({ length: vocab }, (_, id) => Number(id === token));
const targetLaw = (setup: Setup, row: number) => lawOf(target[row]!, setup.target);

/** What a guess was drawn from: one token where a strategy other than the model made it. */
function guessLaw({ draft: filters }: Setup, word: number, place: number): number[] {
  return filters && word >>> 24 === 1 ? lawOf(draft[place]!, filters) : oneHot(word & 0xffffff);
}

/** The chance of such tokens in two rows that follow each other, where each is drawn from the target. */
function chance(setup: Setup, { tokens }: Outcome, row: number): number {
  const counts = new Array<number>(vocab ** 2).fill(0);
  for (const own of tokens) counts[own[row]! * vocab + own[row + 1]!]!++;
  const next = targetLaw(setup, row + 1);
  return chiSquare(
    counts,
    targetLaw(setup, row).flatMap((p) => next.map((q) => p * q)),
  );
}

/** The chance that as many guesses are kept as can be: what target and guess have in common, summed over tokens. */
function keptChance(setup: Setup, { tokens, guesses: made }: Outcome, place: number): number {
  const p = targetLaw(setup, place);
  let kept = 0;
  let expected = 0;
  made.forEach((words, i) => {
    const word = words[place]!;
    kept += Number((word & 0xffffff) === tokens[i]![place]);
    const q = guessLaw(setup, word, place);
    expected += p.reduce((sum, value, token) => sum + Math.min(value, q[token]!), 0) / made.length;
  });
  return chiSquare([kept, made.length - kept], [expected, 1 - expected]);
}

function expectTargetLogProbs({ tokens, logProbs }: Outcome): void {
  const logs = raw.map((row) => logSoftmaxReference(row, vocab));
  const expected = tokens.flatMap((own) => own.map((token, row) => logs[row]![token]!));
  expectClose(logProbs.flat(), expected, tolerance.f32);
}

/** Rule `rejection` with a part of its code replaced. */
function altered(name: string, [from, to]: readonly [string, string]): AcceptanceRule {
  return {
    ...{ name, needsLaws: true },
    judge(pass, tensors, shape) {
      const run: Pass['run'] = (kernel, bound, grid) => {
        expect(kernel.code, 'the code to replace').toContain(from);
        pass.run({ ...kernel, code: kernel.code.replace(from, to) }, bound, grid);
      };
      rejection.judge?.({ device: pass.device, run }, tensors, shape);
    },
  };
}

await eachTier((device, tier) => {
  test('rejection gives the very tokens of its reference, and the target’s log-probabilities', async () => {
    for (const setup of [...Object.values<Setup>(setups), gaps]) {
      const [plain, judged] = await draw(device(), setup, [coupled, rejection], { samples: 12 });
      const expected = plain!.tokens.map((own, i) =>
        own.map((token, place) => {
          const word = judged!.guesses[i]![place] ?? none;
          const judges = word !== none && place + 1 < (setup.end?.(i) ?? 1000);
          // Else, and where the target is greedy, the draw stays.
          if (!judges || setup.target.temperature === 0) return token;
          const laws = { p: targetLaw(setup, place), q: guessLaw(setup, word, place) };
          const key = { seed: firstSeed + i, position: place + 1 };
          return rejectionReference({ ...laws, guess: word & 0xffffff }, key);
        }),
      );
      expect(judged!.tokens).toEqual(expected);
      expectTargetLogProbs(judged!);
    }
  });

  // The law says nothing new of other tiers, which have the tokens of the reference too; wide workgroups take long on
  // software drivers.
  if (tier !== 'software') return;
  const many = { samples: 256, rounds: 5 };

  describe('rejection draws from the target, and keeps as many guesses as can be', () => {
    test.each(Object.entries<Setup>(setups))('%s', async (_, setup) => {
      const [outcome] = await draw(device(), setup, [rejection], many);
      for (let row = 0; row + 1 < rows; row++) {
        expect(chance(setup, outcome!, row)).toBeGreaterThan(1e-4);
        expect(keptChance(setup, outcome!, row)).toBeGreaterThan(1e-4);
      }
    });
  });

  test('wrong rules do not draw from the target: the control', async () => {
    const guess = 'probability(law, adjusted[base + guess])';
    const left = 'probability(law, adjusted[base + i]) - select(certain, laws[own + i], drawn)';
    const wrong = [
      altered('accepts with chance q / p', [`coin * q < ${guess}`, `coin * ${guess} < q`]),
      altered('accepts all', [`coin * q < ${guess}`, 'true']),
      altered('draws from p where it rejects', [left, 'probability(law, adjusted[base + i])']),
      altered('leaves the target’s draw where it rejects', ['u32(-first)', 'pick.x']),
      altered('tosses its coin with the noise of draws', [
        'philox(vec4u(0u, row.y + 1u, 1u, 0u), s.seed).x',
        'philox(vec4u(guess / 4u, row.y + 1u, 0u, 0u), s.seed)[guess % 4u]',
      ]),
    ];
    const setup = setups['filters, and a warmer draft model'];
    const outcomes = await draw(device(), setup, [rejection, ...wrong], many);
    const chances = outcomes.map((outcome) => chance(setup, outcome, 0));
    expect(chances[0]).toBeGreaterThan(1e-4);
    wrong.forEach(({ name }, i) => expect(chances[i + 1], name).toBeLessThan(1e-6));
  });
});
