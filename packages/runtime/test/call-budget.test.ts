import { expectNoErrors, testDevice } from '@ensample/testing';
import type { Device } from '@ensample/tensor';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import type { Engine } from '../src/index.ts';
import { prompt, tinyEngine } from './tiny-engine.ts';

const steps = 40;

let device: Device;
let engine: Engine;
beforeAll(async () => {
  device = await testDevice();
  engine = await tinyEngine(device);
});
afterEach(async () => {
  vi.restoreAllMocks();
  await expectNoErrors(device);
});
afterAll(() => {
  engine.dispose();
  device.destroy();
});

/** Calls to WebGPU since it was made, and the bytes of each writeBuffer. */
function countCalls() {
  const prototypes = {
    gpu: Object.getPrototypeOf(device.gpu) as GPUDevice,
    queue: Object.getPrototypeOf(device.gpu.queue) as GPUQueue,
  };
  const { gpu, queue } = prototypes;
  const scratch = device.tensor('u32', [4]);
  const buffer = Object.getPrototypeOf(scratch.buffer) as GPUBuffer;
  scratch.destroy();
  const writes = vi.spyOn(queue, 'writeBuffer');
  const spies = {
    submit: vi.spyOn(queue, 'submit'),
    mapAsync: vi.spyOn(buffer, 'mapAsync'),
    createBuffer: vi.spyOn(gpu, 'createBuffer'),
    createBindGroup: vi.spyOn(gpu, 'createBindGroup'),
    createComputePipeline: vi.spyOn(gpu, 'createComputePipeline'),
    createComputePipelineAsync: vi.spyOn(gpu, 'createComputePipelineAsync'),
    createShaderModule: vi.spyOn(gpu, 'createShaderModule'),
  };
  return {
    counts: () =>
      Object.fromEntries(Object.entries(spies).map(([name, spy]) => [name, spy.mock.calls.length])),
    writes: () => writes.mock.calls.map(([, , data, , size]) => size ?? data.byteLength),
  };
}

test.each([{}, { frequencyPenalty: 0.5 }])(
  'a warm decode step with %j costs one submit and one map',
  async (extra) => {
    const options = { ...extra, prompt: prompt(60), n: 8, maxTokens: 3 * steps, ignoreEos: true, seed: 1 };
    await engine.generate(options);
    let calls: ReturnType<typeof countCalls> | undefined;
    let token = 0;
    for await (const event of engine.stream(options)) {
      if (event.type !== 'token' || event.index !== 0) continue;
      token++;
      if (token === steps) calls = countCalls();
      if (token === 2 * steps) break;
    }
    expect(calls?.counts()).toEqual({
      submit: steps,
      mapAsync: steps,
      createBuffer: 0,
      createBindGroup: 0,
      createComputePipeline: 0,
      createComputePipelineAsync: 0,
      createShaderModule: 0,
    });
    const writes = calls?.writes() ?? [];
    expect(writes.length).toBeGreaterThan(0); // a page boundary is on the way
    expect(writes.length).toBeLessThanOrEqual(Math.ceil(steps / 16));
    expect(Math.max(...writes)).toBeLessThanOrEqual(16 * 1024);
  },
);
