import { OutOfMemoryError, type Device, type GpuTensor } from '@ensample/tensor';
import { expectNothingAllocated, testDevice } from '@ensample/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { KvCache, type KvCacheOptions, type KvLayout, type Segment } from '../src/index.ts';
import { Journal } from './journal.ts';
import { layouts } from './layouts.ts';

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterAll(() => device.destroy());
afterEach(() => expectNothingAllocated(device));

const options: KvCacheOptions = { pageTokens: 4, draftLimit: 3, dtype: 'f32' };
const full = layouts['full']!;

function chain(leaf: Segment | undefined): number[] {
  const starts: number[] = [];
  for (let at = leaf; at; at = at.parent) starts.unshift(at.start);
  return starts;
}

test('a full slab is followed by a segment in the next one', () => {
  const cache = new KvCache(device, full, { ...options, slabBytes: 512 * 4 });
  const journal = new Journal(cache);
  const entry = journal.open();
  for (let i = 0; i < 9; i++) journal.write(entry, 5);
  expect(cache.pools[0]!.slabs.map(({ pages }) => pages)).toEqual([2, 2, 4, 4, 4]);
  expect(chain(entry.sequence.leaf).length).toBeGreaterThan(3);
  journal.check();
  journal.close(entry);
  expect(cache.memory.used).toBe(0);
  cache.destroy();
});

test('slabs double, an idle pool is replaced by one slab, and the version tells', () => {
  const cache = new KvCache(device, full, options);
  const pages = () => cache.pools[0]!.slabs.map((slab) => slab.pages);
  const versions = [cache.version];
  const ensure = (wanted: number) => {
    cache.ensure([wanted]);
    versions.push(cache.version);
  };
  ensure(3);
  expect(pages()).toEqual([3]);
  const sequence = cache.sequence();
  sequence.reserve(4);
  ensure(2);
  expect(pages()).toEqual([3]);
  ensure(3);
  expect(pages()).toEqual([3, 3]);
  sequence.release();
  ensure(4);
  expect(pages()).toEqual([4]);
  expect(cache.memory).toEqual({ used: 0, allocated: 4 * 512 * 2 });
  expect(versions.map((version, i) => i > 0 && version !== versions[i - 1])).toEqual([
    false,
    true,
    false,
    true,
    true,
  ]);
  cache.destroy();
});

test('ensure spreads what one slab cannot hold', () => {
  const cache = new KvCache(device, full, { ...options, slabBytes: 512 * 4 });
  cache.ensure([10]);
  expect(cache.pools[0]!.slabs.map(({ pages }) => pages)).toEqual([4, 4, 2]);
  expect(cache.slabs).toBe(3);
  expect(cache.buffer(1, 2)?.shape).toEqual([2, 2, 1, 4, 16]);
  expect([cache.buffer(1, 3), cache.buffer(2, 0)]).toEqual([undefined, undefined]);
  cache.destroy();
});

test('more than a slab holds is refused before anything is taken', () => {
  const cache = new KvCache(device, layouts['full and window']!, { ...options, slabBytes: 512 * 4 });
  expect(cache.maxReserve).toBe(16);
  const journal = new Journal(cache);
  const entry = journal.open();
  journal.write(entry, 6);
  const before = { memory: cache.memory, leaf: entry.sequence.leaf, version: cache.version };
  expect(() => entry.sequence.reserve(17)).toThrow(OutOfMemoryError);
  expect(() => entry.sequence.reserve(1e12)).toThrow('append at most 16 at a time');
  expect({ memory: cache.memory, leaf: entry.sequence.leaf, version: cache.version }).toEqual(before);
  journal.check();
  journal.write(entry, 16);
  journal.check();
  cache.destroy();
});

test('a slab that cannot be made leaves what was there', () => {
  const cache = new KvCache(device, full, options);
  const journal = new Journal(cache);
  const entry = journal.open();
  journal.write(entry, 6);
  const before = { memory: cache.memory, leaf: entry.sequence.leaf };
  const real = device.tensor.bind(device);
  const tensor = vi
    .spyOn(device, 'tensor')
    .mockImplementationOnce(real)
    .mockImplementation(() => {
      throw new OutOfMemoryError('no more');
    });
  expect(() => entry.sequence.reserve(100)).toThrow('no more');
  tensor.mockRestore();
  expect({ memory: cache.memory, leaf: entry.sequence.leaf }).toEqual(before);
  expect(device.memory.bytes).toBe(cache.memory.allocated);
  journal.check();
  journal.write(entry, 100);
  journal.check();
  cache.destroy();
});

describe('joining slabs', () => {
  /** A chain of segments in several slabs, each page filled with a number of its own. */
  function fill(cache: KvCache) {
    const sequence = cache.sequence();
    for (const tokens of [10, 30, 90]) {
      sequence.reserve(tokens);
      sequence.commit(tokens);
      sequence.fork().reserve(8); // cuts the chain into segments
    }
    for (const [kind, pool] of cache.pools.entries()) {
      pool.slabs.forEach(({ pages, buffers }, slab) =>
        buffers.forEach((buffer, owner) => {
          const words = buffer.byteLength / 4 / pages;
          const number = (page: number) => 1e6 * kind + 1e4 * owner + 1e3 * slab + page;
          const all = Array.from({ length: pages }, (_, page) => new Array<number>(words).fill(number(page)));
          device.write(buffer, Float32Array.from(all.flat()));
        }),
      );
    }
    return sequence;
  }

  /** What the pages of a chain hold, for each kind and owner. */
  async function contents(cache: KvCache, leaf: Segment | undefined): Promise<number[]> {
    const values: number[] = [];
    for (let at = leaf; at; at = at.parent) {
      for (const [kind, { slab, ids }] of at.runs.entries()) {
        for (const buffer of cache.pools[kind]!.slabs[slab]!.buffers) {
          const data = await device.read(buffer as GpuTensor<'f32'>);
          const words = data.length / cache.pools[kind]!.slabs[slab]!.pages;
          for (const id of ids) values.push(data[id * words]!, data[(id + 1) * words - 1]!);
        }
      }
    }
    return values;
  }

  test('pages move into one slab with what they hold', async () => {
    const cache = new KvCache(device, layouts['full and window']!, options);
    const { leaf } = fill(cache);
    expect(cache.slabs).toBeGreaterThan(2);
    const before = { contents: await contents(cache, leaf), memory: cache.memory, version: cache.version };
    expect(new Set(before.contents).size).toBeGreaterThan(20);
    await cache.join();
    expect(cache.pools.map(({ slabs }) => slabs.length)).toEqual([1, 1]);
    expect(await contents(cache, leaf)).toEqual(before.contents);
    expect(cache.memory).toEqual(before.memory);
    expect(cache.version).toBeGreaterThan(before.version);
    const { version } = cache;
    await cache.join();
    expect(cache.version).toBe(version);
    const next = cache.sequence();
    next.reserve(8);
    const taken = leaf!.runs[0]!.ids;
    expect(next.leaf!.runs[0]!.ids.some((id) => taken.includes(id))).toBe(false);
    cache.destroy();
  });

  test('slabs stay as they are where a binding or the memory would not hold them', async () => {
    const small = new KvCache(device, full, { ...options, slabBytes: 512 * 40 });
    fill(small);
    const large = new KvCache(device, full, options);
    const { leaf } = fill(large);
    const before = await contents(large, leaf);
    const slabs = () => [small, large].map((cache) => cache.slabs);
    const expected = slabs();
    await small.join();
    await large.join(large.memory.allocated - 1);
    const memory = vi.spyOn(device, 'checkMemory').mockRejectedValue(new OutOfMemoryError('no more'));
    await large.join();
    memory.mockRestore();
    expect(slabs()).toEqual(expected);
    expect(await contents(large, leaf)).toEqual(before);
    small.destroy();
    large.destroy();
  });
});

test('pages from pool to segment and back', () => {
  const cache = new KvCache(device, full, options);
  cache.ensure([2]);
  const pool = cache.pools[0]!;
  const page = pool.take(0);
  expect([pool.freePages, pool.usedBytes]).toEqual([1, 512 * 2]);
  pool.give(0, page);
  expect(() => pool.give(0, page)).toThrow('given back twice');
  pool.take(0);
  pool.take(0);
  expect(() => pool.take(0)).toThrow('no free page');
  cache.destroy();
});

test('pagesFor bounds what a segment really takes', () => {
  for (const [window, step] of [
    [1, 1],
    [6, 1],
    [6, 5],
    [16, 11],
    [33, 3],
  ] as const) {
    const layers = [{ kind: 'sliding', window, kvSource: 0 }] as const;
    const cache = new KvCache(device, { layers, kvHeads: 1, headDim: 16 }, options);
    cache.ensure([40]);
    const sequence = cache.sequence();
    for (let length = step; length < 150; length += step) {
      sequence.reserve(step);
      sequence.commit(step);
      const pages = cache.pagesFor(cache.kinds[0]!, length, step);
      expect(cache.memory.used / 512).toBeLessThanOrEqual(pages);
    }
    cache.destroy();
  }
});

test('options out of range are refused', () => {
  const make = (wrong: KvCacheOptions) => () => new KvCache(device, full, { ...options, ...wrong });
  for (const pageTokens of [0, 2, 6, 512, NaN]) {
    expect(make({ pageTokens })).toThrow(
      `pageTokens is ${pageTokens}: it must be a power of two from 4 to 256`,
    );
  }
  expect(make({ draftLimit: -1 })).toThrow('draftLimit is -1: it must be an integer from 0 on');
  expect(make({ slabBytes: 511 })).toThrow('a KV page of 512 bytes is larger than a slab may be (511)');
});

test('layouts that do not fit together are refused', () => {
  const make = (layers: KvLayout['layers']) => () =>
    new KvCache(device, { layers, kvHeads: 1, headDim: 16 }, options);
  const sliding = (window: number, kvSource: number) => ({ kind: 'sliding', window, kvSource }) as const;
  expect(make([{ kind: 'sliding', kvSource: 0 }])).toThrow('sliding layer 0 has a window of undefined');
  expect(make([sliding(0, 0)])).toThrow('sliding layer 0 has a window of 0');
  expect(make([sliding(8, 0), { kind: 'full', kvSource: 0 }])).toThrow('the windows must be the same');
  expect(make([sliding(8, 0), sliding(8, 0), sliding(8, 1)])).toThrow(
    'layer 2 reads the KV of layer 1, which owns none',
  );
  expect(make([1, 2, 3, 4, 5].map((window, i) => sliding(window, i)))).toThrow('at most 4 are supported');
});
