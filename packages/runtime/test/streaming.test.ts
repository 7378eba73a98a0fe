import { DeviceLostError, InvalidOptionError, OutOfMemoryError, type Device } from '@ensample/tensor';
import { expectNoErrors, expectNothingAllocated, testDevice } from '@ensample/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createEngine, type Engine, type Model, type ModelSource, type StreamEvent } from '../src/index.ts';
import { prompt, tinyEngine, tinySource } from './tiny-engine.ts';

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

const options = { prompt: prompt(40), n: 4, maxTokens: 20, seed: 5, topP: 1, temperature: 1 };

describe('stream', () => {
  test('gives events in order, and their texts make up the samples', async () => {
    const events: StreamEvent[] = [];
    for await (const event of engine.stream({ ...options, stop: 'zz', stopTokenIds: [9] }))
      events.push(event);
    const result = events.at(-1)!;
    if (result.type !== 'result') throw new Error(`the last event is ${result.type}`);
    expect(events.filter(({ type }) => type === 'result')).toHaveLength(1);
    expect(result.samples.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    for (const sample of result.samples) {
      const own = events.filter((event) => event.type !== 'result' && event.index === sample.index);
      const last = own.at(-1)!;
      expect(last).toEqual({ type: 'finish', index: sample.index, sample });
      const tokens = own.slice(0, -1).map((event) => (event.type === 'token' ? event : undefined)!);
      expect(tokens.map(({ text }) => text).join('')).toBe(sample.text);
      const drawn = tokens.map(({ token }) => token);
      const stop = [0, 9].includes(drawn.at(-1)!) ? drawn.slice(-1) : []; // of the model, or of the request
      expect(drawn).toEqual([...sample.tokens, ...stop]);
    }
    expect(await engine.generate({ ...options, stop: 'zz', stopTokenIds: [9] })).toMatchObject({
      samples: result.samples,
    });
  });

  test('leaving the loop early gives everything back', async () => {
    for await (const event of engine.stream(options)) if (event.type === 'token') break;
    expect(engine.kvMemory.used).toBe(0);
    using session = await engine.prefill(options.prompt);
    const { used } = engine.kvMemory;
    expect(used).toBeGreaterThan(0);
    const { prompt: _, ...rest } = options;
    for await (const event of session.stream(rest)) if (event.type === 'token') break;
    expect(engine.kvMemory.used).toBe(used);
    expect((await session.generate(rest)).samples).toEqual((await engine.generate(options)).samples);
  });

  test('runs started together wait for each other, and each gives its own samples', async () => {
    const other = { ...options, prompt: prompt(23, 9), n: 2 };
    const [a, b] = await Promise.all([engine.generate(options), engine.generate(other)]);
    expect(a.samples).toEqual((await engine.generate(options)).samples);
    expect(b.samples).toEqual((await engine.generate(other)).samples);
  });
});

describe('a signal', () => {
  const reason = new Error('no longer wanted');

  test('aborted before', async () => {
    await expect(engine.generate({ ...options, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await expect(engine.prefill(prompt(9), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await expect(engine.generate({ ...options, signal: AbortSignal.abort() })).rejects.toThrow(
      expect.objectContaining({ name: 'AbortError' }),
    );
  });

  test('during prefill', async () => {
    const controller = new AbortController();
    const running = engine.generate({ ...options, prompt: prompt(480), signal: controller.signal });
    const rejected = expect(running).rejects.toBe(reason);
    await until(() => engine.kvMemory.used > 0);
    controller.abort(reason);
    await rejected;
    expect(engine.kvMemory.used).toBe(0);
    const again = await engine.generate({ ...options, prompt: prompt(480), n: 1 });
    expect(again.samples[0]!.tokens.length).toBeGreaterThan(0);
  });

  test('during decoding, and the session stays as it was', async () => {
    using session = await engine.prefill(options.prompt);
    const { prompt: _, ...rest } = options;
    const { used } = engine.kvMemory;
    const controller = new AbortController();
    const seen: StreamEvent[] = [];
    const run = async () => {
      for await (const event of session.stream({ ...rest, signal: controller.signal })) {
        seen.push(event);
        controller.abort(reason);
      }
    };
    await expect(run()).rejects.toBe(reason);
    expect(seen.length).toBeLessThanOrEqual(options.n);
    expect(engine.kvMemory.used).toBe(used);
    expect((await session.generate(rest)).samples).toEqual((await engine.generate(options)).samples);
  });

  test('during an append leaves the session as it was', async () => {
    using session = await engine.prefill(prompt(40));
    const before = (await session.generate({ n: 2, maxTokens: 8, seed: 1 })).samples;
    const controller = new AbortController();
    const { used } = engine.kvMemory;
    const growing = expect(session.append(prompt(400, 2), controller.signal)).rejects.toBe(reason);
    await until(() => engine.kvMemory.used > used);
    controller.abort(reason);
    await growing;
    expect(session.tokens).toEqual(prompt(40));
    expect((await session.generate({ n: 2, maxTokens: 8, seed: 1 })).samples).toEqual(before);
  });
});

describe('dispose', () => {
  test('frees all that the engine made, sessions included, and refuses later calls', async () => {
    const before = device.memory;
    const own = await tinyEngine(device);
    const session = await own.prefill(prompt(30));
    await session.generate({ n: 4, maxTokens: 4, frequencyPenalty: 1 });
    own.dispose();
    own.dispose();
    expect(device.memory).toEqual(before);
    const message = 'this engine was disposed of';
    await expect(own.generate(options)).rejects.toThrow(message);
    await expect(own.prefill(prompt(3))).rejects.toThrow(InvalidOptionError);
    for (const call of [session.generate(), session.append([1]), session.truncate(1)]) {
      await expect(call).rejects.toThrow(InvalidOptionError);
    }
    expect(() => session.fork(1)).toThrow(InvalidOptionError);
  });

  test('during a run ends it, and leaves nothing', async () => {
    const before = device.memory;
    const own = await tinyEngine(device);
    const run = async () => {
      for await (const event of own.stream(options)) if (event.type === 'token') own.dispose();
    };
    await expect(run()).rejects.toThrow('this engine was disposed of');
    expect(device.memory).toEqual(before);
  });

  test('of a session refuses later calls, and its forks live on', async () => {
    const session = await engine.prefill(prompt(30));
    using fork = session.fork(1)[0]!;
    session.dispose();
    session.dispose();
    await expect(session.generate()).rejects.toThrow('this session was disposed of');
    expect((await fork.generate({ maxTokens: 4, seed: 2 })).samples).toEqual(
      (await engine.generate({ prompt: prompt(30), maxTokens: 4, seed: 2 })).samples,
    );
  });

  test('an engine that fails to start leaves nothing', async () => {
    const before = device.memory;
    const source = tinySource();
    const broken: ModelSource = {
      name: 'broken',
      load: async (on) => {
        const { model, tokenizer } = await source.load(on);
        const { config, layout } = model;
        const wrong: Model = {
          config: { ...config, heads: 3 },
          layout,
          activations: (rows) => model.activations(rows),
          forward: (pass, step) => model.forward(pass, step),
          destroy: () => model.destroy(),
        };
        return { tokenizer, model: wrong };
      },
    };
    await expect(createEngine({ model: broken, device })).rejects.toThrow('3 query heads cannot share 2');
    expect(device.memory).toEqual(before);
  });
});

test('a lost device is reported as such, by running calls and later ones', async () => {
  const lost = await testDevice();
  const own = await tinyEngine(lost);
  const session = await own.prefill(prompt(20));
  const running = session.stream({ n: 4, maxTokens: 100, ignoreEos: true });
  await running.next();
  lost.gpu.destroy();
  await expect(
    (async () => {
      for await (const _ of running);
    })(),
  ).rejects.toThrow(DeviceLostError);
  await expect(own.generate(options)).rejects.toThrow(DeviceLostError);
  await expect(session.append([3])).rejects.toThrow(DeviceLostError);
  own.dispose();
  expectNothingAllocated(lost);
});

test('a request that does not fit in memory says so, and a smaller one works', async () => {
  using own = await tinyEngine(device);
  const { samples } = await own.generate(options);
  const tensor = device.tensor.bind(device);
  device.tensor = (dtype, shape, usage) => {
    if (shape.length === 5) throw new OutOfMemoryError('no memory left');
    return tensor(dtype, shape, usage);
  };
  try {
    const large = { ...options, prompt: prompt(300), n: 64 };
    await expect(own.generate(large)).rejects.toThrow(OutOfMemoryError);
    expect(own.kvMemory.used).toBe(0);
  } finally {
    Reflect.deleteProperty(device, 'tensor');
  }
  expect((await own.generate(options)).samples).toEqual(samples);
});

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 2000 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 1));
  expect(condition()).toBe(true);
}
