import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OutOfMemoryError, type Device } from '@ensample/tensor';
import { expectNoErrors, testDevice } from '@ensample/testing';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Bench, GpuOptions } from '../src/gpu/bench.ts';
import { openBench } from '../src/gpu/command.ts';
import { benchLayouts, type Serving } from '../src/gpu/mixattention.ts';
import { Report } from '../src/gpu/report.ts';
import { benchDrafts } from '../src/gpu/speculation.ts';

const options: Omit<GpuOptions, 'least'> = {
  ...{ shapes: ['tiny'], weights: ['f16'], contexts: [64], layers: 2, products: [], prefill: [32] },
  ...{ vocab: 512, repeats: 1 },
};

/** Small, with windows much shorter than a prompt. */
const serving: Serving = {
  shape: { hiddenSize: 64, heads: 4, kvHeads: 2, headDim: 32, intermediateSize: 96, vocabSize: 96 },
  ...{ layers: 8, window: 24, prompt: 300, output: 100, memory: 12e6 },
};

describe('bench gpu: the papers', () => {
  let device: Device;
  let results = '';
  let bench: Bench;

  beforeAll(async () => {
    device = await testDevice({ tier: 'software' });
  });
  beforeEach(async () => {
    results = await mkdtemp(join(tmpdir(), 'gpu-'));
    const report = await Report.open(device, {
      ...{ results, name: 'NVIDIA H100', robustness: true, log: () => undefined },
    });
    bench = await openBench(device, report, options);
    return async () => {
      bench.models.release();
      await rm(results, { recursive: true });
      await expectNoErrors(device);
      expect(device.memory.buffers).toBe(0);
    };
  });
  afterAll(() => device.destroy());

  test('speculation: a row for each acceptance and length, with the acceptance that was imposed', async () => {
    await benchDrafts(bench, { shape: 'tiny', weights: 'f16', context: 40, n: [2], maxTokens: 24 });
    const { rows, skipped } = bench.report;
    expect(skipped).toEqual([]);
    const found = rows.filter(({ section }) => section === 'speculation');
    expect(found.map(({ acceptance, length }) => `${String(acceptance)} ${String(length)}`)).toEqual([
      ...['0.8 auto', '0.8 bass', '0.9 auto', '0.9 bass', '0.6 auto', '0.6 bass'],
    ]);
    for (const row of found) {
      const [ms, plain, speedup] = [row['msPerToken'], row['plainMsPerToken'], row['speedup']] as number[];
      expect(speedup).toBeCloseTo(plain! / ms!, 5);
      // The tiny shape's FLOPs over 989 TFLOP/s.
      expect(row['utilisation']).toBeGreaterThan(0);
      expect(row['utilisation']).toBeLessThan(1e-5);
    }
    const long = found.find(({ acceptance, length }) => acceptance === 0.9 && length === 'bass');
    expect(long?.['tokensPerRound']).toBeGreaterThan(2);
  });

  test('MixAttention: as many sequences as the memory holds, KV as small as the layout says', async () => {
    await benchLayouts(bench, serving, ['standard', 'MA-Offset']);
    const { rows, skipped } = bench.report;
    expect(skipped).toEqual([]);
    const found = rows.filter(({ section }) => section === 'mixattention');
    // 400 tokens are 13 pages; a window of 24 keeps ⌈(23 + 32 + 1) / 32⌉ + 1 = 3, three times in 8 layers of MA-Offset.
    const page = 2 * 2 * 32 * 32 * 4;
    expect(found).toMatchObject([
      { kvBytesPerSequence: 8 * 13 * page, kvRatio: 1, ratio: 1 },
      { kvBytesPerSequence: (13 + 3 * 3) * page, kvRatio: (8 * 13) / 22 },
    ]);
    for (const row of found) {
      const [count, bytes] = [row['sequences'], row['kvBytesPerSequence']] as [number, number];
      expect(count * bytes).toBeLessThan(serving.memory);
      expect(count * bytes).toBeGreaterThan(0.7 * serving.memory);
      const [prefill, decode] = [row['prefillMs'], row['decodeMs']] as [number, number];
      const seconds = (count * prefill + 100 * decode) / 1000;
      expect(row['tokensPerSecond']).toBeCloseTo((100 * count) / seconds, 3);
    }
  });

  test('MixAttention: where memory ends sooner, fewer sequences are measured', async () => {
    const check = device.checkMemory.bind(device);
    const tried: number[] = [];
    const spy = vi.spyOn(device, 'checkMemory').mockImplementation((what, allocate) => {
      const count = Number(/KV of (\d+) sequences/.exec(what)?.[1]);
      if (count) tried.push(count);
      if (tried.length === 1 && count) throw new OutOfMemoryError('too much');
      return check(what, allocate);
    });
    await benchLayouts(bench, { ...serving, memory: 6e6 }, ['MA-Offset']);
    spy.mockRestore();
    expect(tried).toHaveLength(2);
    expect(tried[1]).toBeLessThan(tried[0]!);
    expect(bench.report.find({ section: 'mixattention' })).toMatchObject({ sequences: tried[1] });
  });
});
