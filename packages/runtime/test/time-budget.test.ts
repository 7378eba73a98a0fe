import { expectNoErrors, expectNothingAllocated, testDevice } from '@ensample/testing';
import type { Device } from '@ensample/tensor';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import type { Engine, GenerateResult, PromptedOptions, Sample } from '../src/index.ts';
import { pagesInUse } from './speculating.ts';
import { prompt, tinyEngine, tinySource } from './tiny-engine.ts';

let device: Device;
let engine: Engine;
beforeAll(async () => {
  device = await testDevice();
  engine = await tinyEngine(device, { layers: '0s' }, { draft: tinySource({ layers: '0s', seed: 4 }) });
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

const options = {
  prompt: prompt(40),
  maxTokens: 60,
  temperature: 3,
  topP: 1,
  seed: 5,
  ignoreEos: true,
} as const;

/** Milliseconds that a token takes, on a clock that only tokens move. */
const perToken = 10;

/** A run's result, what the clock said when each sample's last token came, and at the end. */
async function onSlowClock(run: PromptedOptions) {
  let clock = 0;
  const now = vi.spyOn(performance, 'now').mockImplementation(() => 5000 + clock);
  try {
    const last = new Map<number, number>();
    let result: GenerateResult | undefined;
    for await (const event of engine.stream(run)) {
      if (event.type === 'result') result = event;
      if (event.type !== 'token') continue;
      last.set(event.index, clock);
      clock += perToken;
    }
    return { result: result!, last, end: clock };
  } finally {
    now.mockRestore();
  }
}

test.each([0, 3])(
  'drafts of %i: finished samples are returned, the rest as far as they got',
  async (draftLength) => {
    const free = (await engine.generate({ ...options, n: 6, draftLength: 0 })).samples;
    const stopTokenIds = [free[1]!.tokens[7]!, free[4]!.tokens[12]!];
    const whole = { ...options, n: 6, draftLength, stopTokenIds, rank: 'mean-logprob' } as const;
    const all = (await engine.generate(whole)).samples;
    const { result, last, end } = await onSlowClock({ ...whole, timeBudgetMs: 1200 });
    const { samples, stats } = result;
    const late = samples.filter(({ finishReason }) => finishReason === 'time');
    const done = samples.filter(({ finishReason }) => finishReason !== 'time');
    expect(late.length).toBeGreaterThan(0);
    expect(done.length).toBeGreaterThan(1);

    // Up to a round of every sample comes after the last look at the clock.
    expect(end).toBeGreaterThanOrEqual(1200);
    expect(end).toBeLessThanOrEqual(1200 + 6 * (draftLength + 1) * perToken);
    const same = (sample: Sample) => all.find(({ index }) => index === sample.index)!;
    for (const sample of done) expect(sample).toEqual(same(sample));
    for (const sample of late) {
      expect(sample.tokens.length).toBeGreaterThan(0);
      expect(sample.tokens).toEqual(same(sample).tokens.slice(0, sample.tokens.length));
      expect(sample.text).toBe(engine.decode(sample.tokens));
    }

    const byMean = (group: readonly Sample[]) => [...group].sort((a, b) => b.meanLogprob - a.meanLogprob);
    expect(samples).toEqual([...byMean(done), ...byMean(late)]);
    expect(samples).not.toEqual(byMean(samples)); // one that is late would be ahead

    const drawn = ({ tokens, finishReason }: Sample) => tokens.length + (finishReason === 'stop' ? 1 : 0);
    const latency = (sample: Sample) =>
      (sample.finishReason === 'time' ? end : last.get(sample.index)!) / drawn(sample);
    const inTime = [...done].sort((a, b) => last.get(a.index)! - last.get(b.index)!);
    expect(stats.msPerToken.firstFinished).toBeCloseTo(latency(inTime[0]!), 6);
    expect(stats.msPerToken.lastFinished).toBeCloseTo(latency(inTime.at(-1)!), 6);
    expect(stats.msPerToken.mean).toBeCloseTo(samples.reduce((sum, s) => sum + latency(s), 0) / 6, 6);
    expect(stats.generatedTokens).toBe(samples.reduce((sum, sample) => sum + drawn(sample), 0));
  },
);

test('bestOf returns a finished sample, whatever the others promise', async () => {
  const free = (await engine.generate({ ...options, n: 4, draftLength: 0 })).samples;
  const stopTokenIds = [free[2]!.tokens[3]!];
  const run = { ...options, n: 1, bestOf: 4, stopTokenIds, draftLength: 3, timeBudgetMs: 300 };
  const { result } = await onSlowClock(run);
  expect(result.samples).toHaveLength(1);
  expect(result.samples[0]!.finishReason).toBe('stop');
});

test('on a real clock the call returns near its budget', async () => {
  const long = { ...options, n: 8, maxTokens: 450, draftLength: 2 };
  await engine.generate({ ...long, maxTokens: 20 }); // everything is compiled
  const began = performance.now();
  const { samples, stats } = await engine.generate({ ...long, timeBudgetMs: 200 });
  const took = performance.now() - began;
  expect(took).toBeGreaterThanOrEqual(199);
  expect(took).toBeLessThan(200 + 800); // rounds in flight are waited for
  for (const { finishReason, tokens } of samples) {
    expect(finishReason).toBe('time');
    expect(tokens.length).toBeLessThan(450);
  }
  expect(stats.msPerToken).toMatchObject({ firstFinished: undefined, lastFinished: undefined });
  expect(stats.msPerToken.mean).toBeGreaterThan(0);
});

test('waiting counts, and so does prefill: a call may come back with nothing', async () => {
  const first = engine.generate({ ...options, draftLength: 0 });
  const second = await engine.generate({ ...options, n: 3, timeBudgetMs: 1 });
  expect((await first).samples[0]!.tokens).toHaveLength(60);
  for (const { tokens, text, finishReason } of second.samples) {
    expect([tokens, text, finishReason]).toEqual([[], '', 'time']);
  }
  expect(second.stats).toMatchObject({ steps: 0, generatedTokens: 0, acceptedDraftTokens: 0 });
});
