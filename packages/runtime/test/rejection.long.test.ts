import { js1mDraft, js22m } from '@ensample/model-js';
import type { Device } from '@ensample/tensor';
import {
  adjustReference,
  expectNoErrors,
  expectNothingAllocated,
  testDevice,
  type Filters,
} from '@ensample/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type GenerateOptions } from '../src/index.ts';
import { draw, filters, prompt, strategies, target, vocab } from './guessing.ts';
import { filtered, lawsOf, least, textChance, tripleChance, tripleLaw } from './laws.ts';

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterEach(() => expectNoErrors(device));
afterAll(() => {
  expectNothingAllocated(device);
  device.destroy();
});

type Adjusting = Pick<
  Required<GenerateOptions>,
  'repetitionPenalty' | 'presencePenalty' | 'frequencyPenalty' | 'logitBias'
>;
const off: Adjusting = { repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0, logitBias: {} };
const samplings: Record<string, Partial<Adjusting & Filters>> = {
  'filters only': {},
  'penalties, bias and min-p': {
    ...{ repetitionPenalty: 1.2, presencePenalty: 0.3, frequencyPenalty: 0.2 },
    ...{ logitBias: { 3: 1, 8: -1 }, topK: 0, topP: 1, minP: 0.03 },
  },
};

describe.each(Object.entries(strategies))('%s', (_name, guessing) => {
  test.each([1, 2, 3, 4])('draft length %i: the first three tokens have the law of the target', async (l) => {
    const law = await tripleLaw(device, target, prompt, filters);
    const { texts } = await draw(device, guessing, [l, l, l, l], { n: 256, maxTokens: 3 });
    expect(tripleChance(texts, law)).toBeGreaterThan(least);
  });

  test.each(Object.entries(samplings))('%s: every token of long texts has its law', async (_, options) => {
    const all = { ...off, ...filters, ...options };
    const bias = Array.from({ length: vocab }, (_, id) => all.logitBias[id] ?? 0);
    const { texts } = await draw(device, guessing, [4, 'bass'], { n: 64, maxTokens: 24, ...options });
    const laws = await lawsOf(device, target, prompt, texts, (logits, output) =>
      filtered(adjustReference(logits, bias, { prompt, output }, all), all),
    );
    expect(textChance(texts, laws)).toBeGreaterThan(least);
  });
});

test(
  'js-22m and its draft, the 8 likeliest tokens: the law of the first three',
  { timeout: 600_000 },
  async () => {
    const top = { temperature: 1.2, topK: 8, topP: 0.9, minP: 0 };
    using engine = await createEngine({ model: js22m(), draft: js1mDraft(), device, kvType: 'f32' });
    using session = await engine.prefill('/** Sorts');
    const law = await tripleLaw(device, js22m(), session.tokens, top);
    const texts: (readonly number[])[] = [];
    for (const [run, draftLength] of [1, 2].entries()) {
      const drawing = { ...top, draftTemperature: 1.6, acceptance: 'rejection', ignoreEos: true } as const;
      const { samples, stats } = await session.generate({
        ...drawing,
        ...{ draftLength, n: 128, maxTokens: 3, seed: 1000 * run },
      });
      texts.push(...samples.map(({ tokens }) => tokens));
      expect(stats.acceptedDraftTokens).toBeGreaterThan(20);
      expect(stats.rejectedDraftTokens).toBeGreaterThan(20);
    }
    expect(law[2]!.size).toBeGreaterThan(100);
    expect(tripleChance(texts, law)).toBeGreaterThan(least);
  },
);
