import { Recorder, tiers, type Device, type Kernel, type TierName } from '@ensample/tensor';
import { KvCache } from '@ensample/kv-cache';
import {
  expectNoErrors,
  expectNothingAllocated,
  KernelCheck,
  largeGpu,
  nullDevice,
  scope,
  uploadBatch,
} from '@ensample/testing';
import { describe, expect, test } from 'vitest';
import { Attention } from '../src/index.ts';

const layers = [
  { kind: 'full', kvSource: 0 },
  { kind: 'sliding', window: 256, kvSource: 1 },
] as const;

async function compile(device: Device, headDim: number, dtype: 'f32' | 'f16'): Promise<void> {
  const [heads, kvHeads, rows] = [6, 2, 4];
  const cache = new KvCache(device, { layers, kvHeads, headDim }, { dtype });
  cache.ensure([1, 1]);
  const attention = new Attention(cache, { heads });
  const { own, destroy } = scope();
  const batch = own(uploadBatch(device, [], rows));
  const q = own(device.tensor<'f32'>('f32', [rows, heads * headDim]));
  const y = own(device.tensor(device.tier.operands, [rows, heads * headDim]));
  const recorder = new Recorder(device);
  layers.forEach((_, layer) =>
    attention.run(recorder, layer, { batch, q, y }, { stride: heads * headDim, rows }),
  );
  const recording = await recorder.finish();
  expect(recording.names).toEqual(['attend', 'merge', 'attend', 'merge']);
  recording.submit();
  destroy();
  attention.destroy();
  cache.destroy();
}

test.each(Object.keys(tiers) as TierName[])('%s: compiles on the null backend', async (tier) => {
  const device = await nullDevice(tier);
  const dtypes = tiers[tier].features.includes('shader-f16') ? (['f32', 'f16'] as const) : (['f32'] as const);
  for (const dtype of dtypes) {
    for (const headDim of [16, 32, 64, 80, 96, 128, 256]) await compile(device, headDim, dtype);
  }
  await expectNoErrors(device);
  expectNothingAllocated(device);
  device.destroy();
});

/** Attention of a step of `rows` rows, recorded in `check`; nothing is bound. */
function record(
  check: KernelCheck,
  headDim: number,
  [heads, kvHeads]: readonly [number, number],
  rows: number,
) {
  const { device } = check;
  const cache = new KvCache(device, { layers, kvHeads, headDim });
  cache.ensure([1, 1]);
  const attention = new Attention(cache, { heads });
  const { own, destroy } = scope();
  const batch = own(device.tensor<'u32'>('u32', [1]));
  const q = own(device.tensor<'f32'>('f32', [1]));
  const y = { ...q, dtype: device.tier.operands };
  const stride = (heads + 2 * kvHeads) * headDim;
  layers.forEach((_, layer) => attention.run(check, layer, { batch, q, y }, { stride, rows }));
  for (const owned of [attention, cache]) owned.destroy();
  destroy();
}

test('plans of nothing but few vectors have a kernel of their own, and the version tells', async () => {
  const device = await nullDevice('matrix', largeGpu);
  const cache = new KvCache(device, { layers, kvHeads: 4, headDim: 64 });
  cache.ensure([40, 40]);
  const attention = new Attention(cache, { heads: 4 });
  const { own, destroy } = scope();
  const batch = own(device.tensor<'u32'>('u32', [1]));
  const q = own(device.tensor<'f32'>('f32', [1]));
  const step = (roots: number, rows: number) => {
    const all = Array.from({ length: roots }, () => cache.sequence());
    for (const sequence of all) sequence.reserve(rows);
    attention.update(all.map((sequence) => ({ sequence, rows })));
    for (const sequence of all) sequence.release();
    const check = new KernelCheck(device);
    attention.run(check, 0, { batch, q, y: { ...q, dtype: 'f16' } }, { stride: 256, rows: 16 });
    const [{ code }] = check.kernels.filter(({ name }) => name === 'attend') as [Kernel];
    return { alone: !code.includes('attend_many'), version: attention.version };
  };
  const together = step(1, 16);
  const apart = step(16, 1);
  const again = step(4, 4);
  const prompt = step(1, 12);
  const token = step(1, 1); // no more than a step of few: what is recorded stays
  expect([together, apart, again, prompt, token].map(({ alone }) => alone)).toEqual([
    ...[false, true, true, false, false],
  ]);
  expect(apart.version).not.toBe(together.version);
  expect(again.version).toBe(apart.version);
  expect(token.version).toBe(prompt.version);
  for (const owned of [attention, cache]) owned.destroy();
  destroy();
  await expectNoErrors(device);
  expectNothingAllocated(device);
  device.destroy();
});

// Dawn's null adapter has too little workgroup memory for attention by subgroup matrices, and subgroups of 4 invocations: the
// test above compiles other kernels.
describe.each(['subgroups', 'f16', 'matrix'] as const)('%s of a large GPU', (tier) => {
  test.each([16, 32, 64, 96, 128, 256])('head size %i compiles', async (headDim) => {
    const device = await nullDevice(tier, largeGpu);
    const check = new KernelCheck(device);
    for (const heads of [
      [4, 4],
      [8, 2],
    ] as const)
      for (const rows of [1, 16, 40]) record(check, headDim, heads, rows);
    const attends = check.kernels.filter(({ name }) => name === 'attend');
    const matrices = attends.filter(({ code }) => code.includes('chromium_experimental_subgroup_matrix'));
    expect(attends.length).toBeGreaterThanOrEqual(3 * layers.length);
    expect(matrices.length > 0).toBe(tier === 'matrix');
    for (const { code } of attends) expect(code).toMatch(/const FEW = [124]u/);
    await check.expectCompiled();
    await expectNoErrors(device);
    expectNothingAllocated(device);
    device.destroy();
  });
});
