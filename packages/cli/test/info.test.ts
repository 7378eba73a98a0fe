import { expect, it } from 'vitest';
import { ensample } from './host.ts';

it('says what the device and the model are', async () => {
  const { code, stdout } = await ensample(['info', '--json', '--tier', 'plain', '--unchecked']);
  expect(code).toBe(0);
  const { adapter, driver, tier, tiers, features, limits, model } = JSON.parse(stdout);
  expect(adapter.description).not.toBe('');
  expect(['software', 'GPU']).toContain(driver);
  expect(tier).toBe('plain');
  expect(tiers).toContain('plain');
  expect(features).not.toContain('subgroups');
  expect(limits.maxBufferSize).toBeGreaterThan(1e8);
  expect(model).toMatchObject({
    name: 'js-22m',
    layers: 12,
    slidingLayers: 10,
    windows: [256],
    kvCaches: 5,
    contextLength: 2048,
    draft: 'js-1m-draft',
  });
  const products = { qkv: 'vector1', output: 'vector1', gateUp: 'vector1', down: 'vector1', head: 'vector1' };
  expect(model.kernels[0]).toEqual({ rows: 1, ...products, attention: 'tile16' });
  expect(model.kernels[1]).toMatchObject({ rows: 16, head: 'tile16' });
  expect(model.kernels[2]).toMatchObject({ rows: 64, head: 'tile64' });
  expect(model.parameters / 1e6).toBeCloseTo(21.3, 1);
});

it('is a table for people', async () => {
  const { stdout } = await ensample(['info']);
  expect(stdout).toMatch(/^adapter {2,}\S/);
  expect(stdout).toMatch(/^parameters +21\.3 M in 22\.7 MB$/m);
  expect(stdout).toMatch(/^layers +12, 10 of them with a window of 256 tokens; 5 KV caches$/m);
  expect(stdout).toMatch(/^draft model +js-1m-draft$/m);
  expect(stdout).toMatch(/^64 rows +qkv \w+, output \w+, gateUp \w+, down \w+, head \w+, attention \w+$/m);
});
