import { js1mDraft } from '@ensample/model-js';
import { promptLookup } from '@ensample/spec-decode';
import {
  eachTier,
  expectNoErrors,
  expectNothingAllocated,
  slowlyCompiled,
  testDevice,
} from '@ensample/testing';
import type { Device } from '@ensample/tensor';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine, type GenerateOptions, type PromptedOptions } from '../src/index.ts';
import { prompt, tinyEngine, tinySource } from './tiny-engine.ts';

const base = { temperature: 0.9, topP: 0.98, seed: 11 } as const satisfies GenerateOptions;

/** Token ids of all samples, by index. */
async function tokens(run: Promise<{ samples: readonly { tokens: readonly number[] }[] }>) {
  return (await run).samples.map((sample) => sample.tokens);
}

/** What n runs of one sample give, with the seeds that one run of n samples uses. */
async function alone(engine: Engine, n: number, options: PromptedOptions) {
  const seed = options.seed ?? 0;
  const all: (readonly number[])[] = [];
  for (let i = 0; i < n; i++) all.push(...(await tokens(engine.generate({ ...options, seed: seed + i }))));
  return all;
}

await eachTier((device, tier) => {
  // On the other tiers of a software driver the same code takes very long: a few tokens do there.
  const [n, maxTokens, length] = tier === 'software' ? [8, 24, 40] : [2, 3, 8];

  test('n samples are what n runs of one give, with drafts and without', { timeout: 240_000 }, async () => {
    const draft = [promptLookup({ shortest: 1 }), tinySource({ layers: '0s' })];
    using engine = await tinyEngine(device(), {}, { draft, kvType: 'f32' });
    const options = { ...base, prompt: prompt(length), maxTokens };
    const expected = await alone(engine, n, { ...options, draftLength: 0 });
    expect(await tokens(engine.generate({ ...options, n, draftLength: 0 }))).toEqual(expected);
    expect(await tokens(engine.generate({ ...options, n, draftLength: 2 }))).toEqual(expected);
    expect(engine.kvMemory.used).toBe(0);
  });
}, slowlyCompiled);

describe("the driver's own tier", () => {
  let device: Device;
  let engine: Engine;
  beforeAll(async () => {
    device = await testDevice();
    engine = await tinyEngine(device);
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

  test('js-1m-draft: 16 samples are what runs of one give', async () => {
    using draft = await createEngine({ model: js1mDraft(), device });
    const options = { ...base, prompt: 'export function clamp(', maxTokens: 16 };
    const together = await tokens(draft.generate({ ...options, n: 16 }));
    expect(together.slice(0, 5)).toEqual(await alone(draft, 5, options));
    const last = { ...options, seed: options.seed + 15 };
    expect(together.slice(15)).toEqual(await alone(draft, 1, last));
  });

  test('samples that stop at different times leave the others as they are', async () => {
    // Rings of window 16 go round several times, and one stop token of 96 thins the batch out.
    const stopTokenIds = [21];
    const options = { ...base, topP: 1, temperature: 1.2, prompt: prompt(50), maxTokens: 220, stopTokenIds };
    const { samples, stats } = await engine.generate({ ...options, n: 8 });
    const lengths = samples.map((sample) => sample.tokens.length).sort((a, b) => a - b);
    expect(stats.steps).toBeGreaterThan(100);
    expect(lengths[4]).toBeLessThan(lengths[7]!); // compacted to 4 at least
    expect(samples.map((sample) => sample.tokens)).toEqual(await alone(engine, 8, options));
  });

  // A stopped sample is in the batch until it is compacted, whatever page boundaries the others cross.
  test.each([29, 30, 31, 32])(
    'a sample that stops at its token %i does not disturb the others',
    async (at) => {
      const options = { ...base, topP: 1, temperature: 1.2, prompt: prompt(40), maxTokens: 70, n: 8 };
      const free = await tokens(engine.generate({ ...options, ignoreEos: true }));
      const stop = rareToken(free, at);
      const { samples } = await engine.generate({ ...options, ignoreEos: true, stopTokenIds: [stop] });
      samples.forEach((sample, i) => {
        const end = free[i]!.indexOf(stop);
        expect(sample.tokens).toEqual(end < 0 ? free[i] : free[i]!.slice(0, end));
      });
    },
  );

  test('forks of a session generate as a fresh prefill of the same ids does', async () => {
    const ids = prompt(70);
    const options = { ...base, n: 2, maxTokens: 12 };
    const fresh = await tokens(engine.generate({ ...options, prompt: ids }));
    using session = await engine.prefill(ids);
    const branches = session.fork(4);
    const used = engine.kvMemory.used;
    for (const branch of branches) expect(await tokens(branch.generate(options))).toEqual(fresh);
    expect(engine.kvMemory.used).toBe(used);
    await branches[0]!.append(prompt(9, 8));
    expect(await tokens(branches[0]!.generate(options))).toEqual(
      await tokens(engine.generate({ ...options, prompt: [...ids, ...prompt(9, 8)] })),
    );
    expect(await tokens(branches[1]!.generate(options))).toEqual(fresh);
    for (const branch of branches) branch.dispose();
    expect(await tokens(session.generate(options))).toEqual(fresh);
  });

  test('a tree of sessions equals flat prompts', async () => {
    const [system, documents, questions] = [
      prompt(45, 1),
      [2, 3].map((s) => prompt(37, s)),
      [4, 5].map((s) => prompt(11, s)),
    ];
    const options = { ...base, n: 2, maxTokens: 8 };
    using root = await engine.prefill(system);
    for (const document of documents) {
      using middle = root.fork(1)[0]!;
      await middle.append(document);
      for (const question of questions) {
        using leaf = middle.fork(1)[0]!;
        await leaf.append(question);
        expect(leaf.tokens).toEqual([...system, ...document, ...question]);
        expect(await tokens(leaf.generate(options))).toEqual(
          await tokens(engine.generate({ ...options, prompt: leaf.tokens })),
        );
      }
    }
  });

  test('appending in pieces equals one prompt', async () => {
    const ids = prompt(80);
    using session = await engine.prefill(ids.slice(0, 1));
    for (const [from, to] of [
      [1, 2],
      [2, 33],
      [33, 34],
      [34, 80],
    ] as const)
      await session.append(ids.slice(from, to));
    const options = { ...base, n: 2, maxTokens: 12 };
    expect(await tokens(session.generate(options))).toEqual(
      await tokens(engine.generate({ ...options, prompt: ids })),
    );
  });

  test('truncate goes back exactly, and prefills again where a window has moved on', async () => {
    const ids = prompt(150);
    const options = { ...base, maxTokens: 12 };
    using session = await engine.prefill(ids);
    expect(await session.truncate(150)).toBe(0);
    const again = await session.truncate(60);
    expect(again).toBe(59);
    expect(session.tokens).toEqual(ids.slice(0, 60));
    expect(await tokens(session.generate(options))).toEqual(
      await tokens(engine.generate({ ...options, prompt: ids.slice(0, 60) })),
    );
    await session.append(ids.slice(60, 70));
    expect(await tokens(session.generate(options))).toEqual(
      await tokens(engine.generate({ ...options, prompt: ids.slice(0, 70) })),
    );
  });

  test('without windows truncate never prefills again', async () => {
    using full = await tinyEngine(device, { layers: '0 1 0 1' });
    const ids = prompt(100);
    const options = { ...base, maxTokens: 12 };
    using session = await full.prefill(ids);
    for (const length of [99, 64, 33, 1]) {
      expect(await session.truncate(length)).toBe(0);
      expect(await tokens(session.generate(options))).toEqual(
        await tokens(full.generate({ ...options, prompt: ids.slice(0, length) })),
      );
    }
  });

  test('a fork made while its session grows keeps the tokens that it has', async () => {
    const ids = prompt(200);
    using session = await engine.prefill(ids.slice(0, 40));
    const growing = session.append(ids.slice(40));
    await new Promise((resolve) => setTimeout(resolve, 5)); // prefill is under way
    using fork = session.fork(1)[0]!;
    await growing;
    const options = { ...base, maxTokens: 8 };
    expect(await tokens(fork.generate(options))).toEqual(
      await tokens(engine.generate({ ...options, prompt: fork.tokens })),
    );
  });
});

/** A token that one sample draws for the first time at `at`, when at most two of the others have drawn it. */
function rareToken(samples: readonly (readonly number[])[], at: number): number {
  const drawn = (token: number) => samples.filter((sample) => sample.slice(0, at + 2).includes(token)).length;
  const found = samples.find((sample) => sample.indexOf(sample[at]!) === at && drawn(sample[at]!) <= 3);
  if (!found) throw new Error('no such token: choose another seed');
  return found[at]!;
}
