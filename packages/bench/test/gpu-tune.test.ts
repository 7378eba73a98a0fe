import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Device } from '@ensample/tensor';
import { nullDevice, onEmulated, testDevice } from '@ensample/testing';
import { describe, expect, test } from 'vitest';
import { runJobs, type Bench } from '../src/gpu/bench.ts';
import { openBench } from '../src/gpu/command.ts';
import { Report } from '../src/gpu/report.ts';
import { benchStaging } from '../src/gpu/staging.ts';
import { benchTiles, tilesKernel } from '../src/gpu/tune/attention-tiles.ts';
import { tuneAttention } from '../src/gpu/tune/attention.ts';
import { climb } from '../src/gpu/tune/climb.ts';
import { allChoices, productTuning, tuneProducts } from '../src/gpu/tune/products.ts';

/** Runs `use` with a report in a folder of its own. */
async function withBench(device: Device, use: (bench: Bench, lines: string[]) => Promise<void>) {
  const results = await mkdtemp(join(tmpdir(), 'tune-'));
  const lines: string[] = [];
  const log = (line: string) => void lines.push(line);
  const sizes = { layers: 1, products: [[96, 128]] as const, prefill: [32], vocab: 512, repeats: 1 };
  try {
    const report = await Report.open(device, { results, name: 'test', robustness: true, log });
    const what = { shapes: ['tiny'], weights: ['f16'] as const, contexts: [64], n: [2] };
    await use(await openBench(device, report, { ...what, ...sizes }), lines);
  } finally {
    await rm(results, { recursive: true });
  }
}

describe('climb', () => {
  const choices = { a: [1, 2, 4, 8], b: [1, 2, 3] };

  test('goes to the cheapest in reach, and measures nothing twice', async () => {
    const measured: string[] = [];
    const found = await climb({ a: 1, b: 1 }, choices, ({ a, b }) => {
      measured.push(`${a} ${b}`);
      return Promise.resolve(Math.abs(a - 4) + Math.abs(b - 2));
    });
    expect(found).toEqual({ layout: { a: 4, b: 2 }, cost: 0 });
    expect(new Set(measured).size).toBe(measured.length);
  });

  test('goes around what cannot be', async () => {
    const cost = ({ a, b }: { a: number; b: number }) => (a === 2 && b === 1 ? Infinity : 10 - a - b);
    const found = await climb({ a: 1, b: 1 }, choices, (layout) => Promise.resolve(cost(layout)));
    expect(found.layout).toEqual({ a: 8, b: 3 });
  });
});

describe('on a software driver', () => {
  test('staging is checked and timed', async () => {
    const device = await testDevice({ tier: 'software' });
    await withBench(device, async (bench) => {
      const way = { width: 64, loads: 4, buffers: 1, besides: 0 } as const;
      await benchStaging(bench, [way, { ...way, buffers: 2 }, { ...way, besides: 1024 }]);
      const rows = bench.report.rows.filter(({ section }) => section === 'staging');
      expect(rows).toHaveLength(1 + 2 * 4); // none has room for a MiB
      expect(new Set(rows.map(({ sum }) => sum)).size).toBe(1);
      for (const { tbps, resident } of rows) {
        expect(tbps).toBeGreaterThan(0);
        expect(resident).toBeGreaterThan(0);
      }
      expect(bench.report.skipped).toEqual([]);
    });
    device.destroy();
  });

  test('a tier without layouts says so', async () => {
    const device = await testDevice({ tier: 'software' });
    await withBench(device, async (bench) => {
      await runJobs(bench, [productTuning]);
      expect(bench.report.skipped).toEqual([expect.stringContaining('tier software has no layouts')]);
    });
    device.destroy();
  });
});

test("attention from tiles compiles on Dawn's null backend", async () => {
  const device = await nullDevice('matrix');
  const sizes = { HEADS: 2, HEAD_DIM: 128, KEYS: 256, VECTORS: 16 };
  for (const keyTiles of [1, 2])
    await device.pipeline(tilesKernel(sizes, { shares: 2, groups: 2, keyTiles, parts: 2 }));
  device.destroy();
});

await onEmulated('f16', (device) => {
  test('layouts of products by teams are checked, timed and compared', async () => {
    await withBench(device(), async (bench, lines) => {
      const teams = { blocks: [1, 2], groups: [4, 8], rowGroups: [1], splits: [2], sides: [1, 2] } as const;
      const choices = { ...allChoices, teams };
      await tuneProducts(bench, { weights: 'f16', outputs: 96, columns: 128 }, [2], choices);
      expect(bench.report.skipped).toEqual([]);
      expect(bench.report.rows.filter(({ section }) => section === 'tune').length).toBeGreaterThanOrEqual(4);
      expect(lines.filter((line) => line.startsWith('best: '))).toHaveLength(1);
    });
  });
});

await onEmulated('matrix', (device) => {
  test('layouts of products are checked, timed and compared', async () => {
    await withBench(device(), async (bench, lines) => {
      const one = { rowTiles: [1], columnTiles: [1], rowGroups: [1], columnGroups: [1], splits: [1] };
      const choices = {
        matrices: { ...one, slices: [1, 2], depth: [64], ahead: [1, 2] as const },
        panels: {
          rowTiles: [1],
          panels: [1, 2],
          groups: [1],
          splits: [1],
          depth: [4],
          sides: [1, 2] as const,
        },
        rows: { outputs: [1, 2], lanes: [8], splits: [1], subgroups: [8] } as const,
        teams: allChoices.teams,
      };
      await tuneProducts(bench, { weights: 'f16', outputs: 96, columns: 128 }, [2], choices);
      expect(bench.report.skipped).toEqual([]);
      expect(bench.report.rows.filter(({ section }) => section === 'tune').length).toBeGreaterThanOrEqual(6);
      expect(lines.filter((line) => line.startsWith('best: '))).toHaveLength(4);
    });
  });

  test('layouts of attention are checked, timed and compared', async () => {
    await withBench(device(), async (bench, lines) => {
      const choices = {
        ...{ vectors: [16, 32], shares: [1, 2], keys: [16] },
        tasks: [512],
      };
      await tuneAttention(bench, { shape: 'tiny', context: 300 }, [3], choices);
      expect(bench.report.skipped).toEqual([]);
      expect(bench.report.rows.filter(({ section }) => section === 'tune').length).toBeGreaterThan(2);
      expect(lines.filter((line) => line.startsWith('best: '))).toHaveLength(1);
    });
  });

  test('attention from tiles is checked and timed', async () => {
    await withBench(device(), async (bench, lines) => {
      const choices = { shares: [1, 2], groups: [1, 2], keyTiles: [1], parts: [2] };
      const start = { shares: 2, groups: 2, keyTiles: 1, parts: 2 };
      for (const vectors of [8, 32])
        await benchTiles(bench, { shape: 'tiny', keys: 256, vectors }, start, choices);
      expect(bench.report.rows.filter(({ section }) => section === 'tune').length).toBeGreaterThanOrEqual(4);
      expect(lines.filter((line) => line.startsWith('best: '))).toHaveLength(2);
      expect(bench.report.skipped).toEqual([]);
    });
  });
});
