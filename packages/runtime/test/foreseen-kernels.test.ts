import { testDevice } from '@ensample/testing';
import type { Device } from '@ensample/tensor';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createEngine, type GenerateOptions } from '../src/index.ts';
import { prompt, tinySource } from './tiny-engine.ts';

let device: Device;
beforeEach(async () => {
  device = await testDevice();
});
afterEach(() => device.destroy());

const run = { prompt: prompt(9), maxTokens: 8, seed: 5, ignoreEos: true } satisfies GenerateOptions & {
  prompt: readonly number[];
};

test.each<[string, GenerateOptions]>([
  ['plain', { draftLength: 0 }],
  ['with a draft model', { draftLength: 2 }],
])('kernels for fewer samples are compiled before they are needed, %s', async (_, options) => {
  using engine = await createEngine({
    model: tinySource(),
    draft: tinySource({ layers: '0s', sizes: { hidden: 96, intermediate: 128 } }),
    device,
  });
  const compiled = async (n: number) => {
    const before = device.pipelines;
    await engine.generate({ ...run, ...options, n });
    return device.pipelines - before;
  };
  expect(await compiled(2)).toBeGreaterThan(0);
  expect(await compiled(1)).toBe(0);
});
