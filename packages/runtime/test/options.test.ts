import { Decoder } from '@ensample/mixattn-model';
import { coupled, rejection } from '@ensample/spec-decode';
import { InvalidOptionError, type Device } from '@ensample/tensor';
import {
  adjustReference,
  DecoderRun,
  expectNoErrors,
  expectNothingAllocated,
  likeliest,
  logSoftmaxReference,
  testDevice,
} from '@ensample/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine, type GenerateOptions } from '../src/index.ts';
import { resolveOptions } from '../src/options.ts';
import { characters, prompt, tinyEngine, tinySource } from './tiny-engine.ts';

let device: Device;
let engine: Engine;
beforeAll(async () => {
  device = await testDevice();
  engine = await tinyEngine(device, { contextLength: 128 });
});
afterEach(async () => {
  await expectNoErrors(device);
  expect(engine.kvMemory.used).toBe(0);
});
afterAll(() => {
  engine.dispose();
  expectNothingAllocated(device);
  device.destroy();
});

const ids = prompt(30);
const greedy = { prompt: ids, temperature: 0, maxTokens: 12, ignoreEos: true } as const;
const only = async (options: GenerateOptions & { prompt: readonly number[] }) =>
  (await engine.generate(options)).samples[0]!;

const outOfRange: Record<string, unknown[]> = {
  n: [0, 257, 1.5, '4', NaN, null],
  bestOf: [0, 257, 2.5],
  maxTokens: [0, -1, 1.5, Infinity],
  temperature: [-0.1, 101, NaN, '1'],
  topK: [-1, 0.5],
  topP: [0, 1.01, -1, NaN],
  minP: [-0.1, 1.1],
  repetitionPenalty: [0, 10.1, -1],
  presencePenalty: [-10.1, 10.1],
  frequencyPenalty: [-10.1, 11, {}],
  logitBias: [{ 96: 1 }, { '-1': 1 }, { x: 1 }, { 1: 1001 }, { 1: NaN }, { 1: '2' }, 5, null],
  seed: [-1, 0.5, 2 ** 53, 'x'],
  stop: ['', ['a', ''], 5, [5], Array(17).fill('x'), null],
  stopTokenIds: [[96], [-1], [1.5], 5, ['1'], Array.from({ length: 33 }, (_, i) => i)],
  ignoreEos: [1, 'yes'],
  logprobs: [5, null],
  rank: ['best', 1],
  signal: [{}, 'now'],
  draftLength: [-1, 33, 1.5, NaN, 'long', null],
  acceptance: ['exact', 1, {}, null],
  draftTemperature: [-0.1, 101, NaN, '1'],
  timeBudgetMs: [0, -5, NaN, Infinity, '100'],
};

describe('options out of range', () => {
  const cases = Object.entries(outOfRange).flatMap(([name, values]) =>
    values.map((value) => [name, JSON.stringify(value), value] as const),
  );
  test.each(cases)('%s: %s is refused by name', async (name, _, value) => {
    const run = engine.generate({ prompt: ids, [name]: value });
    await expect(run).rejects.toThrow(InvalidOptionError);
    await expect(run).rejects.toThrow(name);
  });

  test('bestOf below n, unknown names, and a prompt for a session', async () => {
    await expect(engine.generate({ prompt: ids, n: 3, bestOf: 2 })).rejects.toThrow(
      'bestOf is 2: it must be at least n, which is 3',
    );
    const wrong = { prompt: ids, max_tokens: 5 };
    await expect(engine.generate(wrong)).rejects.toThrow('there is no option "max_tokens": use n,');
    using session = await engine.prefill(ids);
    const prompted: object = { prompt: ids };
    await expect(session.generate(prompted)).rejects.toThrow('there is no option "prompt"');
  });

  test.each([[undefined], [null], [5], [{}], [{ text: 5 }], [[1, 96]], [[1.5]], [['a']]])(
    'prompt %j',
    async (wrong) => {
      await expect(engine.generate({ prompt: wrong as never })).rejects.toThrow(InvalidOptionError);
      await expect(engine.generate({ prompt: wrong as never })).rejects.toThrow('prompt');
    },
  );

  test('prompts that are empty or too long', async () => {
    for (const empty of ['', []]) {
      await expect(engine.generate({ prompt: empty })).rejects.toThrow('the prompt is empty');
    }
    await expect(engine.generate({ prompt: prompt(128) })).rejects.toThrow(
      "the prompt has 128 tokens, and this model's context holds 128",
    );
    using session = await engine.prefill(prompt(120));
    await expect(session.append(prompt(8))).rejects.toThrow('the prompt has 128 tokens');
    await expect(session.append([96])).rejects.toThrow('append holds 96');
    expect(() => session.fork(0)).toThrow('fork count is 0');
    for (const length of [0, 121, 1.5]) await expect(session.truncate(length)).rejects.toThrow('length is');
    expect(session.tokens).toHaveLength(120);
  });

  test('kvType', async () => {
    const model = tinySource();
    const wrong = { model, device, kvType: 'int8' as never };
    await expect(createEngine(wrong)).rejects.toThrow("kvType is int8: it must be 'f32' or 'f16'");
    const f16 = createEngine({ model, device, kvType: 'f16' }); // this tier is opened without shader-f16
    await expect(f16).rejects.toThrow("kvType is 'f16', which needs shader-f16");
  });
});

test('defaults', () => {
  const { seed, ...rest } = resolveOptions({}, 96);
  expect(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32).toBe(true);
  expect(rest).toMatchObject({
    samples: 1,
    returned: 1,
    rank: 'none',
    maxTokens: 128,
    temperature: 0.8,
    topP: 0.95,
  });
  expect(rest).toMatchObject({
    topK: 0,
    minP: 0,
    repetitionPenalty: 1,
    presencePenalty: 0,
    frequencyPenalty: 0,
  });
  expect(rest).toMatchObject({ stop: [], stopTokenIds: [], ignoreEos: false, logprobs: false });
  expect(rest).toMatchObject({ draftLength: 'auto', draftTemperature: 0.8, timeBudgetMs: Infinity });
  expect(rest.acceptance).toBe(coupled);
  expect(resolveOptions({ temperature: 0.3 }, 96).draftTemperature).toBe(0.3);
  expect(resolveOptions({ acceptance: 'rejection' }, 96).acceptance).toBe(rejection);
  expect(resolveOptions({ n: 2, bestOf: 3 }, 96)).toMatchObject({
    samples: 3,
    returned: 2,
    rank: 'mean-logprob',
  });
});

describe('the end of a sample', () => {
  test('a stop string over several tokens is cut off, and no part of it was given out', async () => {
    const free = await only(greedy);
    const stop = free.text.slice(5, 8);
    const at = free.text.indexOf(stop);
    const texts: string[] = [];
    for await (const event of engine.stream({ ...greedy, stop: ['never', stop] })) {
      if (event.type === 'token') texts.push(event.text);
      if (event.type === 'finish') {
        expect(event.sample).toMatchObject({ text: free.text.slice(0, at), finishReason: 'stop' });
        expect(event.sample.tokens).toEqual(free.tokens.slice(0, at + 3));
      }
    }
    expect(texts.join('')).toBe(free.text.slice(0, at));
    const both = await only({ ...greedy, stop: [stop, free.text.slice(2, 4)] });
    expect(both.text).toBe(free.text.slice(0, free.text.indexOf(free.text.slice(2, 4))));
    // Held back as the beginning of a stop string that never comes, and given out in the end.
    expect((await only({ ...greedy, stop: `${free.text.slice(-3)}?` })).text).toBe(free.text);
  });

  test('stop tokens, the model’s own end, token limits and the end of the context', async () => {
    const free = await only(greedy);
    const stop = free.tokens[6]!;
    const end = free.tokens.indexOf(stop);
    expect(await only({ ...greedy, stopTokenIds: [stop] })).toMatchObject({
      tokens: free.tokens.slice(0, end),
      finishReason: 'stop',
    });
    const toEnd = { ...greedy, ignoreEos: false, logitBias: { 0: 1000 } };
    expect(await only(toEnd)).toMatchObject({ tokens: [], text: '', finishReason: 'stop' });
    expect((await only({ ...toEnd, ignoreEos: true })).tokens).toEqual(Array(12).fill(0));
    expect(await only({ ...greedy, maxTokens: 1 })).toMatchObject({
      tokens: free.tokens.slice(0, 1),
      finishReason: 'length',
    });
    const long = await only({ ...greedy, prompt: prompt(120), maxTokens: 500 });
    expect([long.tokens.length, long.finishReason]).toEqual([8, 'length']);
    expect((await only({ ...greedy, prompt: prompt(127), maxTokens: 500 })).tokens).toHaveLength(1);
  });
});

describe('values', () => {
  test('greedy samples are all equal; seeds decide, and sample i uses seed + i', async () => {
    const { samples } = await engine.generate({ ...greedy, n: 4 });
    for (const sample of samples) expect(sample.tokens).toEqual(samples[0]!.tokens);
    const hot = { prompt: ids, temperature: 1.5, topP: 1, maxTokens: 10, ignoreEos: true };
    const [a, b] = [
      await engine.generate({ ...hot, n: 3, seed: 40 }),
      await engine.generate({ ...hot, n: 3, seed: 41 }),
    ];
    expect(a.samples.slice(1).map(({ tokens }) => tokens)).toEqual(
      b.samples.slice(0, 2).map(({ tokens }) => tokens),
    );
    expect(a.samples[0]!.tokens).not.toEqual(a.samples[1]!.tokens);
    const drawn = await engine.generate(hot);
    expect((await engine.generate({ ...hot, seed: drawn.stats.seed })).samples).toEqual(drawn.samples);
    expect((await only({ ...hot, topK: 1, seed: 1 })).tokens).toEqual(
      (await only({ ...greedy, maxTokens: 10 })).tokens,
    );
  });

  test('bestOf returns the best by mean log-probability', async () => {
    const hot = { prompt: ids, temperature: 1.5, topP: 1, maxTokens: 6, seed: 9 };
    const all = (await engine.generate({ ...hot, n: 6 })).samples;
    const best = [...all].sort((a, b) => b.meanLogprob - a.meanLogprob);
    expect(all.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5]);
    expect((await engine.generate({ ...hot, n: 6, rank: 'mean-logprob' })).samples).toEqual(best);
    expect((await engine.generate({ ...hot, n: 2, bestOf: 6 })).samples).toEqual(best.slice(0, 2));
  });

  const penalised: GenerateOptions = {
    repetitionPenalty: 1.3,
    presencePenalty: 0.4,
    frequencyPenalty: 0.7,
    logitBias: { 5: 2, 9: -3 },
  };
  test.each([
    {},
    { logitBias: { 5: 2, 9: -1000 } },
    { frequencyPenalty: 3 },
    { frequencyPenalty: -3 },
    { repetitionPenalty: 1.5 },
    penalised,
  ])('greedy tokens and log-probabilities with %j are what the logits say', async (settings) => {
    const { tokens, logprobs, meanLogprob } = await only({ ...greedy, ...settings, logprobs: true });
    const bias = Array.from({ length: 96 }, (_, id) => settings.logitBias?.[id as 5] ?? 0);
    const penalties = { repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0, ...settings };
    const rows = await modelLogits([...ids, ...tokens]);
    tokens.forEach((token, i) => {
      const row = rows.subarray(96 * (ids.length - 1 + i), 96 * (ids.length + i));
      const adjusted = adjustReference(row, bias, { prompt: ids, output: tokens.slice(0, i) }, penalties);
      expect(token).toBe(likeliest(Float32Array.from(adjusted)));
      expect(logprobs![i]).toBeCloseTo(logSoftmaxReference(Float32Array.from(row), 96)[token]!, 4);
    });
    expect(meanLogprob).toBeCloseTo(logprobs!.reduce((sum, value) => sum + value, 0) / tokens.length, 6);
  });

  test('a bias of -1000 forbids a token, frequency penalties break repetition', async () => {
    const free = await only(greedy);
    const banned = await only({ ...greedy, logitBias: { [free.tokens[0]!]: -1000 } });
    expect(banned.tokens).not.toContain(free.tokens[0]);
    const varied = await only({ ...greedy, maxTokens: 60, frequencyPenalty: 10 });
    const plain = await only({ ...greedy, maxTokens: 60 });
    expect(new Set(varied.tokens).size).toBeGreaterThan(new Set(plain.tokens).size);
  });
});

/** Logits of the same model at every position. */
async function modelLogits(tokens: readonly number[]): Promise<Float32Array> {
  const { model } = await tinySource({ contextLength: 128 }).load(device);
  if (!(model instanceof Decoder)) throw new Error('not a decoder');
  const run = new DecoderRun(device, model);
  const sequence = run.cache.sequence();
  try {
    return (await run.step([{ sequence, tokens }]))[0]!;
  } finally {
    run.destroy();
    model.destroy();
  }
}

test('text goes through the tokenizer, special tokens are left out', async () => {
  expect(engine.encode('ab')).toEqual(characters.encode('ab'));
  expect(engine.encode({ text: 'ab' })).toEqual(engine.encode('ab'));
  expect(engine.decode([...characters.encode('ab'), 0])).toBe('ab');
  const { samples, stats } = await engine.generate({ prompt: 'let x', maxTokens: 2, seed: 1 });
  expect(stats.promptTokens).toBe(5);
  expect(samples[0]!.text).toBe(engine.decode(samples[0]!.tokens));
});
