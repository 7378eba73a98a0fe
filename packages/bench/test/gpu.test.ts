import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KvCache } from '@ensample/kv-cache';
import { matmul, OutOfMemoryError, type Device } from '@ensample/tensor';
import { expectNoErrors, testDevice } from '@ensample/testing';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { runJobs, type Bench, type GpuOptions } from '../src/gpu/bench.ts';
import { openBench } from '../src/gpu/command.ts';
import { benchDecode, decodeJobs, withPrompt } from '../src/gpu/decode.ts';
import { drawKv } from '../src/gpu/draw.ts';
import { hostJobs } from '../src/gpu/host.ts';
import { prefillJobs } from '../src/gpu/prefill.ts';
import { benchProducts, productJobs } from '../src/gpu/products.ts';
import { Report, type Row } from '../src/gpu/report.ts';
import { samplingJobs } from '../src/gpu/sampling.ts';
import { checkTwin } from '../src/gpu/twin.ts';
import { compareReadings, recordStep } from '../src/step.ts';

const options: Omit<GpuOptions, 'least'> = {
  shapes: ['tiny'],
  weights: ['f16', 'int8', 'int4'],
  contexts: [64],
  n: [2, 1],
  layers: 1,
  products: [[96, 64]],
  prefill: [32],
  vocab: 512,
  repeats: 1,
};

interface ResultFile {
  readonly rows: Row[];
  readonly skipped: string[];
}

describe('bench gpu', () => {
  let device: Device;
  let results = '';
  let bench: Bench;

  const open = () => Report.open(device, { results, name: 'test', robustness: true, log: () => undefined });
  const file = async () =>
    JSON.parse(await readFile(join(results, 'gpu-test-software.json'), 'utf8')) as ResultFile;

  beforeAll(async () => {
    device = await testDevice({ tier: 'software' });
  });
  beforeEach(async () => {
    results = await mkdtemp(join(tmpdir(), 'gpu-'));
    bench = await openBench(device, await open(), options);
    return async () => {
      bench.models.release();
      await rm(results, { recursive: true });
      await expectNoErrors(device);
      expect(device.memory.buffers).toBe(0);
    };
  });
  afterAll(() => device.destroy());

  test('all sections give their rows, the most valuable first, and the file has them', async () => {
    await runJobs(bench, [decodeJobs, productJobs, prefillJobs, hostJobs, samplingJobs]);
    const { rows, skipped } = await file();
    expect(skipped).toEqual([]);
    expect(rows).toEqual(bench.report.rows);
    expect(rows.map(({ section }) => section).slice(0, 6)).toEqual([
      ...['bandwidth', 'decode', 'decode', 'matmul', 'matmul', 'prefill'],
    ]);
    expect(rows.filter(({ section }) => section === 'matmul')).toHaveLength(6);
    // Sampling adds a step of 16 samples to compare with.
    expect(rows.filter(({ section }) => section === 'decode')).toHaveLength(7);
    for (const value of rows.flatMap((row) => Object.values(row)))
      if (typeof value === 'number') expect(value).toSatisfy(Number.isFinite);
  });

  test('another run keeps the rows it does not measure again', async () => {
    await bench.report.add({ section: 'matmul', weights: 'f16', rows: 1, us: 7 });
    await bench.report.add({ section: 'matmul', weights: 'f16', rows: 2, us: 8 });
    const next = await open();
    await next.add({ section: 'matmul', weights: 'f16', rows: 1, us: 6 });
    const { rows } = await file();
    expect(rows.filter(({ section }) => section === 'matmul').map(({ us }) => us)).toEqual([6, 8]);
  });

  test('a wrong product is refused', async () => {
    const wrong: typeof matmul = (pass, tensors, shape) =>
      matmul(pass, tensors, { ...shape, store: 'accumulate' });
    const shape = { weights: 'int4', outputs: 96, columns: 64 } as const;
    await benchProducts(bench, shape, [3], wrong);
    expect(bench.report.skipped).toEqual([expect.stringMatching(/^matmul int4 3 × 96 × 64: .* is wrong/)]);
    expect(bench.report.find({ section: 'matmul' })).toBeUndefined();
    await benchProducts(bench, shape, [3]);
    expect(bench.report.find({ section: 'matmul' })?.['error']).toBeLessThan(1e-5);
  });

  test('a twin whose logits are not those of the reference is refused', async () => {
    await expect(checkTwin(device, 'tiny', 'int8', [3])).resolves.toBeLessThan(1e-5);
    const wrong = checkTwin(device, 'tiny', 'int8', [3], { ropeTheta: 9000 });
    await expect(wrong).rejects.toThrow('twin of tiny in int8 is wrong');
  });

  test('readings that disagree are refused', async () => {
    const decoder = await bench.models.get('tiny', 'f16');
    await withPrompt(bench, decoder, { context: 64, n: 2 }, async (running, prompt) => {
      const [a, b] = [prompt.fork(), prompt.fork(40)];
      for (const leaf of [a, b]) leaf.reserve(1);
      const steps = [await recordStep(running, [a]), await recordStep(running, [b])] as const;
      await expect(compareReadings(running, ...steps, 'n = 1')).rejects.toThrow('nothing was timed');
      for (const step of steps) step.destroy();
    });
  });

  test('samples that do not fit in memory are left out, the others measured', async () => {
    const check = device.checkMemory.bind(device);
    const spy = vi.spyOn(device, 'checkMemory').mockImplementation((what, allocate) => {
      if (what.endsWith(' 2 samples')) throw new OutOfMemoryError('too much');
      return check(what, allocate);
    });
    await benchDecode(bench, { shape: 'tiny', weights: 'f16', context: 64, n: [2, 1] });
    spy.mockRestore();
    expect(bench.report.skipped).toEqual(['decode tiny f16 64, n = 2: too much']);
    expect(bench.report.rows.flatMap(({ n }) => (n === undefined ? [] : [n]))).toEqual([1]);
  });

  test('drawn keys and values differ from page to page and from layer to layer', async () => {
    const layers = [0, 1].map((kvSource) => ({ kind: 'full', kvSource }) as const);
    const cache = new KvCache(device, { layers, kvHeads: 2, headDim: 32 });
    cache.ensure([3]);
    await drawKv(cache);
    const drawn = await Promise.all([0, 1].map((layer) => device.read(cache.buffer(layer, 0)!)));
    const values = drawn.flatMap((array) => Array.from(array));
    expect(new Set(values).size).toBeGreaterThan(0.5 * values.length);
    expect(Math.max(...values)).toBeCloseTo(2, 2);
    expect(Math.min(...values)).toBeCloseTo(-2, 2);
    cache.destroy();
  });
});
