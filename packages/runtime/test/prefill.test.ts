import { Attention } from '@ensample/bifurcated-attn';
import type * as KvCache from '@ensample/kv-cache';
import type { Device } from '@ensample/tensor';
import { DecoderRun, expectNoErrors, expectNothingAllocated, seeded, testDevice } from '@ensample/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Session } from '../src/index.ts';
import { Stepper } from '../src/stepper.ts';
import { expectSameSamples } from './speculating.ts';
import { loadDecoder, prompt, tinyEngine, tinySource } from './tiny-engine.ts';

// Chunks shorter than a window, so that little is computed that need not be.
vi.mock('@ensample/kv-cache', async (importOriginal) => ({
  ...(await importOriginal<typeof KvCache>()),
  prefillRows: () => 8,
}));

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterEach(async () => {
  vi.restoreAllMocks();
  await expectNoErrors(device);
  expectNothingAllocated(device);
});
afterAll(() => device.destroy());

/** Windows of 16 above all full layers, so that their tokens before the last ones are nobody's. */
const maps = {
  'MA-Pairs': '0 1s 1s 3s 3s',
  'MA-Offset': '0s 1 2s 2s 4s 1',
  'windows only': '0s 1s 1s 3s',
  'a full owner last': '0s 1s 2',
};
const contextLength = 512;

/** Writes NaN where keys and values will go: what reads where nothing was written does not go unnoticed. */
function poison({ cache }: DecoderRun, tokens: number): void {
  cache.ensure(cache.kinds.map(() => Math.ceil(tokens / cache.pageTokens)));
  for (const buffer of cache.pools.flatMap(({ slabs }) => slabs.flatMap(({ buffers }) => buffers)))
    device.write(buffer, new Float32Array(buffer.byteLength / 4).fill(NaN));
}

/** Acts when prefill waits for the device for the `count`-th time. @returns what undoes it, and tells how often it waited. */
function atWait(count: number, act: () => void) {
  const { queue } = device.gpu;
  const wait = queue.onSubmittedWorkDone.bind(queue);
  const spy = vi.spyOn(queue, 'onSubmittedWorkDone');
  return spy.mockImplementation(() => {
    if (spy.mock.calls.length === count) act();
    return wait();
  });
}

describe.each(Object.entries(maps))('prefill, %s', (name, layers) => {
  test.each([
    [300, 1],
    [129, 70],
  ])(
    '%i tokens and %i more: what follows is as if every layer had seen every token',
    async (first, second) => {
      const model = await loadDecoder(device, tinySource({ layers, contextLength }));
      const [run, whole] = [0, 1].map(() => new DecoderRun(device, model, { pageTokens: 8, dtype: 'f32' }));
      poison(run!, 512);
      const attention = new Attention(run!.cache, { heads: model.config.heads });
      const stepper = new Stepper(model, run!.cache, attention);
      const ids = prompt(first + second + 40);
      const sequence = run!.cache.sequence();
      const forward = vi.spyOn(model, 'forward');
      await stepper.prefill(sequence, ids.slice(0, first));
      sequence.seal();
      const ends = new Set(forward.mock.calls.map(([, { lastOwner }]) => lastOwner));
      expect(ends.size > 1, 'chunks end at different layers').toBe(name !== 'a full owner last');
      await stepper.prefill(sequence, ids.slice(first, first + second));
      sequence.seal();
      const rest = ids.slice(first + second);
      const [found] = await run!.step([{ sequence, tokens: rest }]);
      const fresh = whole!.cache.sequence();
      const [expected] = await whole!.step([{ sequence: fresh, tokens: ids }]);
      expect(found).toEqual(expected!.slice(-rest.length * model.config.vocabSize));
      for (const owned of [stepper, attention, run!, whole!, model]) owned.destroy();
    },
  );
});

test('chunks whose keys and values nobody reads are not computed', async () => {
  const model = await loadDecoder(device, tinySource({ layers: maps['windows only'], contextLength }));
  const run = new DecoderRun(device, model, { pageTokens: 8 });
  const attention = new Attention(run.cache, { heads: model.config.heads });
  const stepper = new Stepper(model, run.cache, attention);
  const submit = vi.spyOn(device.gpu.queue, 'submit');
  await stepper.prefill(run.cache.sequence(), prompt(320));
  expect(submit).toHaveBeenCalledTimes(7); // of 40: three owners go back 15 tokens each, and to the beginning of a page or chunk
  for (const owned of [stepper, attention, run, model]) owned.destroy();
});

test('after prefills that were aborted nothing of them counts', async () => {
  const ids = prompt(400);
  const options = { maxTokens: 12, seed: 3, n: 2 };
  using engine = await tinyEngine(device, { layers: maps['MA-Pairs'], contextLength }, { kvType: 'f32' });
  using session = await engine.prefill(ids.slice(0, 100));
  // The second is so late that windows have moved on: the third begins anew, and ends where keys are missing.
  for (const chunks of [1, 20, 12]) {
    const controller = new AbortController();
    const waited = atWait(chunks, () => controller.abort(new Error('enough')));
    await expect(session.append(ids.slice(100), controller.signal)).rejects.toThrow('enough');
    waited.mockRestore();
    expect(session.tokens).toEqual(ids.slice(0, 100));
    await engine.generate({ ...options, prompt: prompt(390, 9) }); // what is given back has other keys and values then
  }
  const { samples } = await session.generate(options);
  const fresh = await engine.generate({ ...options, prompt: ids.slice(0, 100) });
  expectSameSamples(samples, fresh.samples);
});

test.each(['waits', 'compiles'])('a session forked while it %s goes back exactly', async (moment) => {
  const ids = prompt(400);
  const options = { maxTokens: 6, temperature: 0 } as const;
  using engine = await tinyEngine(device, { layers: maps['MA-Pairs'], contextLength }, { kvType: 'f32' });
  using session = await engine.prefill(ids.slice(0, 10));
  const forks: Session[] = [];
  if (moment === 'waits') {
    await engine.generate({ ...options, prompt: prompt(390, 9) }); // pages have other keys and values in them
    atWait(8, () => forks.push(...session.fork(1))); // windows have not moved on yet
  } else {
    const pipeline = device.pipeline.bind(device);
    vi.spyOn(device, 'pipeline').mockImplementationOnce((kernel) => {
      forks.push(...session.fork(1));
      return pipeline(kernel);
    });
  }
  await session.append(ids.slice(10));
  for (const length of [25, 60, 127, 250, 369, 399]) {
    const [back] = session.fork(1);
    await back!.truncate(length);
    const fresh = await engine.generate({ ...options, prompt: ids.slice(0, length) });
    expectSameSamples((await back!.generate(options)).samples, fresh.samples);
    back!.dispose();
  }
  expect(forks.map(({ tokens }) => tokens)).toEqual([ids.slice(0, 10)]);
  forks[0]!.dispose();
});

test('a session disposed of while it grows says so and gives everything back', async () => {
  using engine = await tinyEngine(device, { layers: maps['MA-Pairs'], contextLength }, { kvType: 'f32' });
  const session = await engine.prefill(prompt(10));
  const waited = atWait(5, () => session.dispose());
  await expect(session.append(prompt(390))).rejects.toThrow('this session was disposed of');
  expect(waited.mock.calls.length).toBeLessThan(10);
  expect(engine.kvMemory.used).toBe(0);
});

test.each(['0 1s 1s 3s', '0s 1s'])(
  '%s: sessions that grow, branch and go back continue like fresh prompts',
  async (layers) => {
    const random = seeded(21);
    const options = { maxTokens: 4, temperature: 0 } as const;
    using engine = await tinyEngine(device, { layers, contextLength }, { kvType: 'f32' });
    const sessions = [await engine.prefill(prompt(90))];
    for (let i = 0; i < 18; i++) {
      const session = sessions[random.integer(sessions.length)]!;
      const length = session.tokens.length;
      const change = random.integer(3);
      if (change === 0 && length < 380) await session.append(prompt(1 + random.integer(110), i));
      else if (change === 1) await session.truncate(1 + random.integer(length));
      else sessions.push(...session.fork(1));
      if (sessions.length > 4) sessions.splice(random.integer(5), 1)[0]!.dispose();
      const one = sessions[random.integer(sessions.length)]!;
      const fresh = await engine.generate({ ...options, prompt: one.tokens });
      expectSameSamples((await one.generate(options)).samples, fresh.samples);
    }
    for (const session of sessions) session.dispose();
    expect(engine.kvMemory.used).toBe(0);
  },
);
