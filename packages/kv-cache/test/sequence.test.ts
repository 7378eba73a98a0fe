import type { Device } from '@ensample/tensor';
import { expectNothingAllocated, seeded, testDevice, type Random } from '@ensample/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KvCache, type KvCacheOptions, type KvLayout } from '../src/index.ts';
import { Journal } from './journal.ts';
import { layouts } from './layouts.ts';

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterAll(() => {
  expectNothingAllocated(device);
  device.destroy();
});

/** Pages of 4 tokens; slabs so small that segments must often go on in another one. */
const options: KvCacheOptions = { pageTokens: 4, draftLimit: 3, slabBytes: 512 * 24, dtype: 'f32' };

/** One random operation on a random sequence. */
function step(journal: Journal, random: Random): void {
  const entry = journal.entries[random.integer(journal.entries.length)] ?? journal.open();
  const { length } = entry.sequence;
  const operations: (() => void)[] = [
    () => journal.write(entry, 1),
    () => journal.write(entry, 1 + random.integer(8)),
    () => journal.write(entry, 1 + random.integer(40)),
    () => {
      const reserved = 1 + random.integer(10);
      journal.write(entry, reserved, random.integer(reserved + 1));
    },
    () => journal.fork(entry, length),
    () => journal.fork(entry, random.integer(length + 1)),
    () => journal.truncate(entry, Math.max(0, length - random.integer(4))),
    () => journal.truncate(entry, random.integer(length + 1)),
    () => entry.sequence.seal(),
    () => journal.close(entry),
  ];
  operations[random.integer(operations.length)]!();
  if (journal.entries.length > 12) journal.close(journal.entries[random.integer(12)]!);
}

describe.each(Object.entries(layouts))('%s', (_, layout: KvLayout) => {
  test.each([1, 2, 3, 4, 5])('random operations %d agree with lists of tokens', (seed) => {
    const cache = new KvCache(device, layout, options);
    const journal = new Journal(cache);
    const random = seeded(seed);
    for (let i = 0; i < 250; i++) {
      step(journal, random);
      if (i % 5 === 0) journal.check();
    }
    journal.check();
    const { allocated } = cache.memory;
    expect(allocated).toBe(device.memory.bytes);
    for (const entry of [...journal.entries]) journal.close(entry);
    expect(cache.memory).toEqual({ used: 0, allocated });
    for (const pool of cache.pools) expect(pool.freePages).toBe(pool.totalPages);
    cache.destroy();
    expect(cache.memory).toEqual({ used: 0, allocated: 0 });
  });

  test('the same operations on a pool that was made ready grow nothing', () => {
    const run = (ready: readonly number[]) => {
      const cache = new KvCache(device, layout, { ...options, slabBytes: 2 ** 20 });
      cache.ensure(ready);
      const { version } = cache;
      const most = cache.pools.map(() => 0);
      const journal = new Journal(cache);
      const random = seeded(9);
      for (let i = 0; i < 150; i++) {
        step(journal, random);
        cache.pools.forEach((pool, k) => (most[k] = Math.max(most[k]!, pool.totalPages - pool.freePages)));
      }
      cache.destroy();
      return { grown: cache.version - version - cache.pools.length, most };
    };
    const { most } = run([500, 500, 500]);
    expect(run(most)).toEqual({ grown: 0, most });
    expect(run(most.map((pages) => pages - 1)).grown).toBeGreaterThan(0);
  });
});

test('who writes on a shared leaf gets a segment of its own; the last one left goes on in place', () => {
  const cache = new KvCache(device, layouts['full']!, options);
  const a = cache.sequence();
  a.reserve(6);
  a.commit(6);
  const prompt = a.leaf!;
  const b = a.fork();
  expect([prompt.users, a.reservedEnd, b.reservedEnd]).toEqual([2, 6, 6]);
  expect(b.reserve(1)).toBe(true);
  expect(b.leaf).toMatchObject({ parent: prompt, start: 6, length: 0, reservedEnd: 10 });
  b.release();
  expect([a.leaf, prompt.users, a.reserve(2)]).toEqual([prompt, 1, false]);
  a.release();
  a.release();
  expect([a.length, a.leaf, cache.memory.used]).toEqual([0, undefined, 0]);
  cache.destroy();
});

test('refuses positions that are not in the sequence', () => {
  const cache = new KvCache(device, layouts['full']!, options);
  const sequence = cache.sequence();
  sequence.reserve(4);
  sequence.commit(4);
  for (const at of [-1, 5, 1.5, NaN]) {
    expect(() => sequence.fork(at)).toThrow(`position ${at} is not in a sequence of 4 tokens`);
    expect(() => sequence.truncate(at)).toThrow(`position ${at} is not in a sequence of 4 tokens`);
  }
  for (const tokens of [-1, 0.5, NaN]) {
    expect(() => sequence.reserve(tokens)).toThrow(`reserve of ${tokens} tokens`);
  }
  expect(() => sequence.commit(1)).toThrow('commit of 1 tokens: 0 are reserved');
  expect(() => cache.sequence().commit(1)).toThrow('commit without reserve');
  expect(() => sequence.fork().commit(1)).toThrow('commit without reserve');
  cache.destroy();
});
