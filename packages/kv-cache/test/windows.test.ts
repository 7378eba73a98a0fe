import type { Device } from '@ensample/tensor';
import { expectNothingAllocated, seeded, testDevice } from '@ensample/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  headerWords,
  KvCache,
  layOutTables,
  oldest,
  recordWords,
  segmentTable,
  type Sequence,
} from '../src/index.ts';
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

function tables(sequence: Sequence): number[] {
  const words = new Array<number>(headerWords).fill(0);
  layOutTables(sequence.cache, segmentTable([{ sequence, rows: 1 }]), words);
  return words;
}

describe.each([1, 2, 5])('a window of 16, %d tokens a step', (step) => {
  const layout = { layers: [{ kind: 'sliding', window: 16, kvSource: 0 }], kvHeads: 1, headDim: 16 } as const;

  test('is a ring: once warm it takes no pages, and its table stays as it is', () => {
    const cache = new KvCache(device, layout, { pageTokens: 4, draftLimit: 4, dtype: 'f32' });
    const sequence = cache.sequence();
    const most = cache.pagesFor(cache.kinds[0]!, Infinity, step);
    cache.ensure([most]);
    let before: number[] = [];
    const seen: { pages: number; table: number[] }[] = [];
    while (sequence.length < 16 * 12) {
      const within = sequence.length + step <= sequence.reservedEnd;
      expect(sequence.reserve(step)).toBe(!within);
      const words = tables(sequence);
      if (within) expect(words).toEqual(before);
      before = words;
      sequence.commit(step);
      if (sequence.length > 16 * 4)
        seen.push({ pages: cache.memory.used / 512, table: words.slice(headerWords + recordWords) });
    }
    expect(seen.length).toBeGreaterThan(20);
    for (const { pages, table } of seen) {
      expect(pages).toBe(seen[0]!.pages);
      expect(pages).toBeLessThanOrEqual(most);
      expect(table).toEqual(seen[0]!.table);
    }
    cache.destroy();
  });

  test('keeps window − 1 + draft limit tokens back from the end', () => {
    const cache = new KvCache(device, layout, { pageTokens: 4, draftLimit: 6, dtype: 'f32' });
    cache.ensure([20]);
    const journal = new Journal(cache);
    const entry = journal.open();
    for (let high = step; high < 100; high += step) {
      journal.write(entry, step);
      const { leaf } = entry.sequence;
      expect(oldest(leaf!, leaf!.runs[0]!, 4)).toBeLessThanOrEqual(Math.max(0, high - 15 - 6));
      for (let back = 0; back <= Math.min(6, high); back++) {
        const fork = journal.fork(entry, high - back);
        expect(fork?.sequence.length).toBe(high - back);
        if (fork) journal.close(fork);
      }
    }
    journal.check();
    cache.destroy();
  });
});

test.each(Object.entries(layouts))('%s: drafts within the limit can always be taken back', (_, layout) => {
  const cache = new KvCache(device, layout, { pageTokens: 4, draftLimit: 7, dtype: 'f32' });
  const journal = new Journal(cache);
  const random = seeded(3);
  const prompt = journal.open();
  journal.write(prompt, 50);
  prompt.sequence.seal();
  const samples = [1, 2, 3].map(() => journal.fork(prompt, 50)!);
  for (let i = 0; i < 60; i++) {
    for (const sample of samples) {
      const drafted = 1 + random.integer(7);
      journal.write(sample, drafted);
      expect(journal.truncate(sample, sample.sequence.length - random.integer(drafted + 1))).toBe(true);
    }
    if (i % 10 === 0) journal.check();
  }
  journal.check();
  cache.destroy();
});

test('seal keeps the last window and names where one can go back to', () => {
  const cache = new KvCache(device, layouts['window']!, { pageTokens: 4, draftLimit: 3, dtype: 'f32' });
  const sequence = cache.sequence();
  sequence.reserve(43);
  sequence.commit(41);
  expect(cache.memory.used).toBe(11 * 512 * 2);
  sequence.seal();
  // Window 6: a token at 41 sees 36 to 41, so pages 9 and 10 stay, and 41 is the earliest exact position but 36 + 5.
  expect(cache.memory.used).toBe(2 * 512 * 2);
  expect([sequence.reservedEnd, sequence.exactFrom(10), sequence.exactFrom(0)]).toEqual([44, 41, 0]);
  expect(() => sequence.truncate(40)).toThrow(
    'position 40 cannot be restored exactly: a sliding window has moved on. The earliest exact position is 41;',
  );
  expect(sequence.length).toBe(41);
  sequence.truncate(0);
  expect(cache.memory.used).toBe(0);
  cache.destroy();
});
