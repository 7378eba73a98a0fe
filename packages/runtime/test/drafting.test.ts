import { promptLookup, siblingLookup, type DraftStrategy } from '@ensample/spec-decode';
import { InvalidOptionError, kernel, sequenceChunk, type Device } from '@ensample/tensor';
import { expectNoErrors, expectNothingAllocated, testDevice } from '@ensample/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type DraftOption, type LoadedModel, type ModelSource } from '../src/index.ts';
import { expectSameSamples, pagesInUse } from './speculating.ts';
import { prompt, tinyEngine, tinySource } from './tiny-engine.ts';

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterEach(async () => {
  expect(pagesInUse()).toBe(0);
  await expectNoErrors(device);
  expectNothingAllocated(device);
});
afterAll(() => device.destroy());

const options = {
  prompt: prompt(40),
  n: 4,
  maxTokens: 24,
  ignoreEos: true,
  seed: 5,
  draftLength: 3,
} as const;

/** A model that differs in one thing from the tiny one. */
function altered(name: string, change: (loaded: LoadedModel) => Partial<LoadedModel>): ModelSource {
  const load: ModelSource['load'] = async (on) => {
    const loaded = await tinySource({ layers: '0' }).load(on);
    return { ...loaded, ...change(loaded) };
  };
  return { name, load };
}

const otherSize = altered('small-vocabulary', ({ model }) => ({
  model: {
    config: { ...model.config, vocabSize: 95 },
    layout: model.layout,
    activations: (rows) => model.activations(rows),
    forward: (pass, step) => model.forward(pass, step),
    destroy: () => model.destroy(),
  },
}));
const otherTokens = altered('other-letters', ({ tokenizer }) => ({
  tokenizer: { ...tokenizer, decode: (ids) => tokenizer.decode(ids.map((id) => (id === 40 ? 41 : id))) },
}));

describe('drafts that do not fit are refused when the engine is made, and nothing stays', () => {
  const cases: [string, unknown, string][] = [
    [
      'another vocabulary',
      otherSize,
      'draft model small-vocabulary does not fit the target: its vocabulary has 95 tokens',
    ],
    [
      'other tokens',
      otherTokens,
      'draft model other-letters does not fit the target: token 40 is "H" for it and "G"',
    ],
    [
      'a shorter context',
      tinySource({ contextLength: 256 }),
      'draft model tiny has a context of 256 tokens, the target 512',
    ],
    ['a model before lookups', [tinySource(), promptLookup()], 'draft has model tiny before prompt-lookup'],
    ['two models', [tinySource(), tinySource()], 'draft has model tiny before tiny'],
    ['a word', 'fast', "draft is \"fast\": it must be 'auto', 'none'"],
    ['a number', 5, 'draft is 5'],
    ['a list with null', [null], 'draft is null'],
    ['an object', {}, 'draft is {}'],
    ['a list with a number', [siblingLookup(), 7], 'draft is 7'],
  ];
  test.each(cases)('%s', async (_, draft, message) => {
    const made = createEngine({ model: tinySource(), device, draft: draft as DraftOption });
    await expect(made).rejects.toThrow(InvalidOptionError);
    await expect(made).rejects.toThrow(message);
  });

  test('lookups with lengths that make no sense', () => {
    for (const wrong of [{ shortest: 0 }, { longest: 64 }, { shortest: 5, longest: 4 }, { longest: 2.5 }]) {
      expect(() => promptLookup(wrong)).toThrow(InvalidOptionError);
      expect(() => siblingLookup(wrong)).toThrow('sibling-lookup: shortest is');
    }
  });
});

test("'auto' takes the model's own draft after the lookups; an empty list is no draft", async () => {
  const own = { ...tinySource(), draft: () => tinySource({ layers: '0' }) };
  {
    using engine = await createEngine({ model: own, device });
    const { stats } = await engine.generate(options);
    const names = stats.speculation?.strategies.map(({ name }) => name);
    expect(names).toEqual(['prompt-lookup', 'sibling-lookup', 'tiny']);
  }
  for (const draft of ['none', []] as const) {
    using engine = await createEngine({ model: own, device, draft });
    expect((await engine.generate({ ...options, draftLength: 'auto' })).stats.speculation).toBeUndefined();
    for (const draftLength of [4, 'bass'] as const) {
      const message = `draftLength is ${draftLength}, and this engine has nothing to draft with`;
      await expect(engine.generate({ ...options, draftLength })).rejects.toThrow(message);
    }
  }
});

test('lengths that do not fit the samples or the context', async () => {
  using engine = await tinyEngine(device);
  await expect(engine.generate({ ...options, n: 256, draftLength: 8 })).rejects.toThrow(
    'draftLength is 8: with 256 samples of this model it must be at most 7',
  );
  await expect(engine.generate({ ...options, prompt: prompt(505), draftLength: 8 })).rejects.toThrow(
    'draftLength is 8, and the context has 7 tokens left',
  );
  expect(
    (await engine.generate({ ...options, prompt: prompt(505), draftLength: 7 })).stats.promptTokens,
  ).toBe(505);
});

/** Guesses `token` once a sample has drawn ten tokens of its own. */
function always(token: number): DraftStrategy {
  return {
    name: 'always',
    propose: async ({ tensors, origin, record }) => {
      const { slots, sequences, states, history } = tensors;
      const code = kernel(
        'always',
        { constants: { GUESS: token, ORIGIN: origin } },
        sequenceChunk,
        alwaysBody,
      );
      return [await record('always', (pass) => pass.run(code, { slots, sequences, states, history }, [1]))];
    },
  };
}

const alwaysBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> slots: array<vec4u>;
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read> states: array<State>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= slots[0].x) { return; }
  let q = slots[1u + id.x].y;
  let place = states[q].position + 1u;
  if (place < sequences[q].start + 10u || place >= sequences[q].end) { return; }
  history[history_index(sequences[q], place)] = GUESS | (ORIGIN << 24u);
}
`;

test.each([96, 5000, 0xfffffe])(
  'a strategy that guesses id %i is named, and the engine works on',
  async (id) => {
    using engine = await tinyEngine(device, {}, { draft: [promptLookup(), always(id)] });
    const { samples } = await engine.generate({ ...options, draftLength: 0 });
    const run = engine.generate(options);
    await expect(run).rejects.toThrow(InvalidOptionError);
    await expect(run).rejects.toThrow(
      `draft strategy always guessed token ${id}: ids of this model are integers from 0 to 95`,
    );
    expect(pagesInUse()).toBe(0);
    const early = await engine.generate({ ...options, maxTokens: 10 }); // ends before the first wrong guess
    expect(early.samples.map(({ tokens }) => tokens)).toEqual(
      samples.map(({ tokens }) => tokens.slice(0, 10)),
    );
  },
);

test('a strategy that throws, and one whose guesses are all wrong', async () => {
  const broken: DraftStrategy = { name: 'broken', propose: () => Promise.reject(new Error('no idea')) };
  {
    using engine = await tinyEngine(device, {}, { draft: broken });
    await expect(engine.generate(options)).rejects.toThrow('no idea');
    expect(pagesInUse()).toBe(0);
    expect((await engine.generate({ ...options, draftLength: 0 })).samples).toHaveLength(4);
  }
  using engine = await tinyEngine(device, {}, { draft: always(3) });
  const { samples } = await engine.generate({ ...options, logitBias: { 3: -1000 }, draftLength: 0 });
  const drafted = await engine.generate({ ...options, logitBias: { 3: -1000 } });
  expectSameSamples(drafted.samples, samples);
  expect(drafted.stats).toMatchObject({
    acceptedDraftTokens: 0,
    speculation: { acceptance: 0, tokensPerRound: 1 },
  });
  expect(drafted.stats.rejectedDraftTokens).toBe(4 * 14);
});

describe('a run with drafts that is left', () => {
  const drafts = [siblingLookup({ shortest: 1 }), tinySource({ layers: '0s 1' })];
  const long = { ...options, maxTokens: 200, draftLength: 5 };
  const reason = new Error('no longer wanted');

  test('by a signal or by leaving the loop gives everything back', async () => {
    using engine = await tinyEngine(device, {}, { draft: drafts });
    const controller = new AbortController();
    const run = async () => {
      for await (const event of engine.stream({ ...long, signal: controller.signal })) {
        if (event.type === 'token' && event.index === 2) controller.abort(reason);
      }
    };
    await expect(run()).rejects.toBe(reason);
    expect(pagesInUse()).toBe(0);
    for await (const event of engine.stream(long)) if (event.type === 'token') break;
    expect(pagesInUse()).toBe(0);
    using session = await engine.prefill(long.prompt);
    const { prompt: _, ...rest } = long;
    for await (const event of session.stream(rest)) if (event.type === 'token') break;
    const plain = await engine.generate({ ...options, draftLength: 0 });
    const { prompt: __, ...again } = options;
    expectSameSamples((await session.generate(again)).samples, plain.samples);
    session.dispose();
    expect(pagesInUse()).toBe(0);
  });

  test('by disposing of the engine', async () => {
    const engine = await tinyEngine(device, {}, { draft: drafts });
    const run = async () => {
      for await (const event of engine.stream(long)) if (event.type === 'token') engine.dispose();
    };
    await expect(run()).rejects.toThrow('this engine was disposed of');
    expectNothingAllocated(device);
  });
});
