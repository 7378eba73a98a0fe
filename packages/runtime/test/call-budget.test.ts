import { Sequence } from '@ensample/kv-cache';
import { promptLookup, siblingLookup } from '@ensample/spec-decode';
import { expectNoErrors, testDevice } from '@ensample/testing';
import type { Device } from '@ensample/tensor';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import type { Engine, GenerateOptions } from '../src/index.ts';
import { prompt, tinyEngine, tinySource } from './tiny-engine.ts';

let device: Device;
let engine: Engine;
beforeAll(async () => {
  device = await testDevice();
  const draft = [siblingLookup(), promptLookup(), tinySource({ layers: '0s 1' })];
  engine = await tinyEngine(device, {}, { draft });
});
afterEach(async () => {
  vi.restoreAllMocks();
  await expectNoErrors(device);
});
afterAll(() => {
  engine.dispose();
  device.destroy();
});

/** Counts calls to WebGPU from now on. */
function countCalls() {
  const prototypeOf = <T extends object>(object: T) => Object.getPrototypeOf(object) as T;
  const [gpu, queue] = [prototypeOf(device.gpu), prototypeOf(device.gpu.queue)];
  const scratch = device.tensor('u32', [4]);
  const buffer = prototypeOf(scratch.buffer);
  scratch.destroy();
  const submit = vi.spyOn(queue, 'submit');
  const writes = vi.spyOn(queue, 'writeBuffer');
  const reserve = vi.spyOn(Sequence.prototype, 'reserve');
  const others = {
    mapAsync: vi.spyOn(buffer, 'mapAsync'),
    createBuffer: vi.spyOn(gpu, 'createBuffer'),
    createBindGroup: vi.spyOn(gpu, 'createBindGroup'),
    createComputePipeline: vi.spyOn(gpu, 'createComputePipeline'),
    createComputePipelineAsync: vi.spyOn(gpu, 'createComputePipelineAsync'),
    createShaderModule: vi.spyOn(gpu, 'createShaderModule'),
  };
  /** Bytes of the writes before each submission, and whether a sample took a new page. */
  const rounds = () =>
    submit.mock.invocationCallOrder.map((order, i, all) => {
      const within = (at: number) => at < order && at > (all[i - 1] ?? 0);
      const written = writes.mock.calls
        .filter((_, call) => within(writes.mock.invocationCallOrder[call]!))
        .map(([, , data, , size]) => size ?? data.byteLength);
      const newPage = reserve.mock.results.some(
        ({ value }, call) => value && within(reserve.mock.invocationCallOrder[call]!),
      );
      return { written, newPage };
    });
  const counts = () =>
    Object.fromEntries(Object.entries(others).map(([name, spy]) => [name, spy.mock.calls.length]));
  return { rounds, counts };
}

const plain: GenerateOptions = { draftLength: 0 };
const drafting: GenerateOptions = { draftLength: 3, temperature: 3 };
// A plan and its slots; those of the draft model too, and the plan of its later steps.
test.each([
  [plain, 2],
  [{ ...plain, frequencyPenalty: 0.5 }, 2],
  [drafting, 5],
  [{ ...drafting, frequencyPenalty: 0.5, acceptance: 'rejection' }, 5],
] as const)('a warm round with %j costs one submit and one map', async (extra, mostWrites) => {
  const options = { ...extra, prompt: prompt(60), n: 4, maxTokens: 70, ignoreEos: true, seed: 1 };
  await engine.generate(options);
  let calls: ReturnType<typeof countCalls> | undefined;
  let token = 0;
  for await (const event of engine.stream(options)) {
    if (event.type !== 'token' || event.index !== 0) continue;
    token++;
    if (token === 20) calls = countCalls();
    if (token === 60) break;
  }
  const rounds = calls!.rounds();
  expect(rounds.length).toBeGreaterThan(10);
  expect(calls!.counts()).toEqual({
    mapAsync: rounds.length,
    createBuffer: 0,
    createBindGroup: 0,
    createComputePipeline: 0,
    createComputePipelineAsync: 0,
    createShaderModule: 0,
  });
  const changed = rounds.filter(({ newPage }) => newPage);
  expect(changed.length).toBeGreaterThan(0); // a page boundary is on the way
  for (const { written } of changed) expect(written.length).toBeLessThanOrEqual(mostWrites);
  for (const { written } of rounds.filter(({ newPage }) => !newPage)) expect(written).toEqual([]);
  expect(Math.max(...rounds.flatMap(({ written }) => written))).toBeLessThanOrEqual(16 * 1024);
});
