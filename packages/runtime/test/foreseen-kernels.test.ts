import { expectNoErrors, testDevice } from '@ensample/testing';
import { Device } from '@ensample/tensor';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createEngine, type GenerateOptions } from '../src/index.ts';
import { prompt, tinySource } from './tiny-engine.ts';

let opened: Device;
/** The same under a name that is not a software driver's. */
let device: Device;
beforeEach(async () => {
  opened = await testDevice();
  const { gpu, tier, info } = opened;
  const { subgroupMinSize, subgroupMaxSize } = info;
  const named = { vendor: 'some', architecture: '', device: '', description: '', isFallbackAdapter: false };
  device = new Device(gpu, tier, { ...named, subgroupMinSize, subgroupMaxSize } as GPUAdapterInfo);
});
afterEach(async () => {
  await expectNoErrors(opened);
  opened.destroy();
});

const run = { prompt: prompt(9), maxTokens: 8, seed: 5, ignoreEos: true };

test.each<[string, GenerateOptions]>([
  ['plain', { draftLength: 0 }],
  ['with a draft model', { draftLength: 2 }],
])('kernels for fewer samples are compiled before they are needed, %s', async (_, options) => {
  const draft = tinySource({ layers: '0s', sizes: { hidden: 96, intermediate: 128 } });
  using engine = await createEngine({ model: tinySource(), draft, device });
  const compiled = async (n: number) => {
    const before = device.pipelines;
    await engine.generate({ ...run, ...options, n });
    return device.pipelines - before;
  };
  expect(await compiled(2)).toBeGreaterThan(0);
  expect(await compiled(1)).toBe(0);
});
