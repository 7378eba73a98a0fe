import { promptLookup, siblingLookup } from '@ensample/spec-decode';
import { expectNoErrors, expectNothingAllocated, testDevice } from '@ensample/testing';
import type { Device } from '@ensample/tensor';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Engine, GenerateOptions, Session } from '../src/index.ts';
import { expectAsPlain, expectSameSamples, oracle, pagesInUse } from './speculating.ts';
import { prompt, tinyEngine, tinySource } from './tiny-engine.ts';

const contextLength = 160;
const drafts = () => [
  siblingLookup({ shortest: 2 }),
  promptLookup({ shortest: 2 }),
  tinySource({ layers: '0s 1', contextLength }),
];

let device: Device;
let engine: Engine;
beforeAll(async () => {
  device = await testDevice();
  engine = await tinyEngine(device, { contextLength }, { draft: drafts(), kvType: 'f32' });
});
afterEach(async () => {
  expect(pagesInUse()).toBe(0);
  await expectNoErrors(device);
});
afterAll(() => {
  engine.dispose();
  expectNothingAllocated(device);
  device.destroy();
});

/** High temperatures: draft and target then draw by the same noise, and often the same token. */
const base = { prompt: prompt(40), n: 4, ignoreEos: true, seed: 5, temperature: 3, topP: 1 } as const;

describe('the end of a sample inside a round', () => {
  test('stop strings cut off the rest of a round', async () => {
    const free = (await engine.generate({ ...base, maxTokens: 40, draftLength: 0 })).samples;
    const stop = free.map(({ text }, i) => text.slice(10 + 5 * i, 12 + 5 * i));
    const options = { ...base, maxTokens: 40, stop, draftLength: 7 };
    const stats = await expectAsPlain(engine, options);
    const { samples } = await engine.generate(options);
    for (const sample of samples) expect(sample.finishReason).toBe('stop');
    expect(stats.generatedTokens).toBeLessThan(4 * 40);
  });

  test.each([1, 2, 5, 6, 7, 13])('maxTokens %i', async (maxTokens) => {
    const plain = await engine.generate({ ...base, maxTokens, draftLength: 0, logprobs: true });
    const drafted = await engine.generate({ ...base, maxTokens, draftLength: 5, logprobs: true });
    expectSameSamples(drafted.samples, plain.samples);
    expect(drafted.stats.generatedTokens).toBe(4 * maxTokens);
  });

  test('stop tokens: samples leave the batch at very different times', async () => {
    const { samples } = await engine.generate({ ...base, n: 8, maxTokens: 70, draftLength: 0 });
    // Each sample stops where the first of these comes up: 8 lengths between 5 and 70.
    const stopTokenIds = [samples[1]!.tokens[4]!, samples[6]!.tokens[17]!];
    const options = { ...base, n: 8, maxTokens: 70, stopTokenIds, logprobs: true };
    const plain = (await engine.generate({ ...options, draftLength: 0 })).samples;
    const lengths = new Set(plain.map(({ tokens }) => tokens.length));
    expect(lengths.size).toBeGreaterThan(5);
    expect(Math.max(...lengths)).toBeGreaterThan(3 * Math.min(...lengths));
    await expectAsPlain(engine, { ...options, draftLength: 4 }, plain);
    const right = oracle(
      device,
      plain.map(({ tokens }) => tokens),
    );
    using imposed = await tinyEngine(device, { contextLength }, { draft: right.strategy, kvType: 'f32' });
    await expectAsPlain(imposed, { ...options, draftLength: 7 }, plain);
    right.destroy();
  });

  test.each([
    [159, 1],
    [157, 3],
    [140, 20],
    [128, 32],
  ])('the end of the context, %i tokens of prompt and drafts of %i', async (length, draftLength) => {
    const options = { ...base, prompt: prompt(length), n: 2, maxTokens: 500, logprobs: true };
    const plain = await engine.generate({ ...options, draftLength: 0 });
    const drafted = await engine.generate({ ...options, draftLength });
    expectSameSamples(drafted.samples, plain.samples);
    for (const { tokens } of drafted.samples) expect(tokens).toHaveLength(contextLength - length);
    const tooLong = engine.generate({ ...options, draftLength: draftLength + 1 });
    if (draftLength < 32) await expect(tooLong).rejects.toThrow(`draftLength is ${draftLength + 1}`);
    else await expect(tooLong).rejects.toThrow('draftLength is 33');
  });
});

describe('sessions, with the target as its own draft', () => {
  let twins: Engine;
  beforeAll(async () => {
    const draft = tinySource({ contextLength });
    twins = await tinyEngine(device, { contextLength }, { draft, kvType: 'f32' });
  });
  afterAll(() => twins.dispose());

  const { prompt: _, ...rest } = { ...base, n: 2, maxTokens: 10, draftLength: 4 };

  /** A session continues like a fresh prompt that is decoded plainly. */
  async function expectFresh(session: Session, options: GenerateOptions = rest): Promise<void> {
    const fresh = { ...options, prompt: session.tokens, draftLength: 0 };
    const { samples, stats } = await session.generate(options);
    expectSameSamples(samples, (await twins.generate(fresh)).samples);
    expect(stats.speculation?.acceptance).toBe(1); // wrong KV of the draft model would show
  }

  test('append, truncate and fork before and after a run with drafts', async () => {
    const ids = prompt(90);
    using session = await twins.prefill(ids.slice(0, 50));
    await expectFresh(session);
    await expectFresh(session); // the draft model's prefix is there already
    await session.append(ids.slice(50, 75));
    await expectFresh(session);
    const [fork] = session.fork(1);
    await fork!.append(prompt(13, 8));
    await expectFresh(fork!);
    await session.truncate(74); // within the last window
    await expectFresh(session);
    await session.truncate(30); // the windows have moved on: prefilled again, in the draft model too
    await expectFresh(session);
    await session.append(ids.slice(30));
    await expectFresh(session);
    await expectFresh(fork!);
    fork!.dispose();
  });

  test('of one token', async () => {
    using session = await twins.prefill([17]);
    await expectFresh(session);
  });

  test('a run between others that goes without drafts', async () => {
    using session = await twins.prefill(prompt(60));
    await session.generate({ ...rest, draftLength: 0 });
    await session.append(prompt(9, 4));
    await session.generate({ ...rest, draftLength: 0 });
    await expectFresh(session);
  });
});

test('many runs, one after the other, with different samples, lengths and settings', async () => {
  const settings: GenerateOptions[] = [
    { n: 1, draftLength: 3 },
    { n: 8, draftLength: 4, frequencyPenalty: 0.5 },
    { n: 2, draftLength: 'bass', temperature: 0 },
    { n: 11, draftLength: 1 },
    { n: 3, draftLength: 9, acceptance: 'rejection' },
    { n: 5, draftLength: 'bass', topK: 8, logitBias: { 4: 2 } },
    { n: 1, draftLength: 32 },
    { n: 4, draftLength: 2, draftTemperature: 1, repetitionPenalty: 1.3, minP: 0.05 },
  ];
  const runs = settings.map((extra, i) => ({
    ...base,
    maxTokens: 17,
    ...extra,
    prompt: prompt(20 + 9 * i, i),
  }));
  for (const options of runs) {
    const drafted = await engine.generate({ ...options, logprobs: true });
    expect(drafted.stats.speculation!.rounds).toBeGreaterThan(0);
    expect(pagesInUse()).toBe(0);
    if (options.acceptance === 'rejection') continue;
    const plain = await engine.generate({ ...options, draftLength: 0, logprobs: true });
    expectSameSamples(drafted.samples, plain.samples);
  }
  const { bytes } = engine.memory;
  for (const options of runs.slice(0, 2)) await engine.generate(options);
  expect(engine.memory.bytes).toBe(bytes);
});
