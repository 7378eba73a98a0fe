import type { Device } from '@ensample/tensor';
import { expectNothingAllocated, seeded, testDevice, type Random } from '@ensample/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  headerWords,
  KvCache,
  layOutTables,
  openEnd,
  recordWords,
  segmentTable,
  type Segment,
  type SegmentTable,
  type Sequence,
  type StepSequence,
} from '../src/index.ts';
import { layouts } from './layouts.ts';

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterAll(() => {
  expectNothingAllocated(device);
  device.destroy();
});

function grow(sequence: Sequence, tokens: number): Sequence {
  sequence.reserve(tokens);
  sequence.commit(tokens);
  return sequence;
}

/** Sequences forked off one another at random positions, some in several slabs. */
function randomTree(cache: KvCache, random: Random): Sequence[] {
  const sequences = [grow(cache.sequence(), 20), grow(cache.sequence(), 7)];
  for (let i = 0; i < 12; i++) {
    const from = sequences[random.integer(sequences.length)]!;
    const at = Math.max(1, random.integer(2) ? from.length : random.integer(from.length + 1));
    sequences.push(grow(from.fork(from.exactFrom(at)), 1 + random.integer(12)));
  }
  return sequences;
}

/** Some of the sequences, in any order, each with rows reserved. */
function randomStep(sequences: readonly Sequence[], random: Random): StepSequence[] {
  const step = sequences
    .filter(() => random.integer(4) > 0)
    .map((sequence) => ({ sequence, rows: 1 + random.integer(4), key: random.uniform() }))
    .sort((a, b) => a.key - b.key);
  for (const { sequence, rows } of step) sequence.reserve(rows + random.integer(3));
  return step;
}

/** The stretches above a sequence's rows, leaf first. */
function pathOf(table: SegmentTable, leaf: number): number[] {
  const path: number[] = [];
  for (let at: number | undefined = leaf; at !== undefined; at = table.stretches[at]!.parent) path.push(at);
  return path;
}

function segmentsOf(sequence: Sequence): Segment[] {
  const segments: Segment[] = [];
  for (let at = sequence.leaf; at; at = at.parent) segments.push(at);
  return segments;
}

function checkTable(step: readonly StepSequence[], table: SegmentTable): void {
  const rows = table.places.flatMap(({ firstRow, rows }) =>
    Array.from({ length: rows }, (_, i) => firstRow + i),
  );
  expect(rows.sort((a, b) => a - b)).toEqual(Array.from({ length: table.rows }, (_, i) => i));
  const paths = table.places.map(({ leaf }) => pathOf(table, leaf));
  step.forEach((entry, i) => {
    const { rows, leaf } = table.places[i]!;
    expect(rows).toBe(entry.rows);
    expect(table.stretches[leaf]).toMatchObject({ end: Infinity, segment: entry.sequence.leaf });
    // From the root on, the stretches are one run of positions, in the sequence's own segments.
    let at = 0;
    for (const index of [...paths[i]!].reverse()) {
      const { start, end } = table.stretches[index]!;
      expect(start).toBe(at);
      at = end;
    }
    const stretched = paths[i]!.map((index) => table.stretches[index]!.segment);
    expect([...new Set(stretched)]).toEqual(segmentsOf(entry.sequence));
  });
  table.stretches.forEach(({ firstRow, rows, sequences }, index) => {
    const below = table.places
      .filter((_, i) => paths[i]!.includes(index))
      .map(({ firstRow, rows }) => ({ firstRow, rows }))
      .sort((a, b) => a.firstRow - b.firstRow);
    expect(sequences).toEqual(below);
    let at = firstRow;
    for (const range of below) {
      expect(range.firstRow).toBe(at);
      at += range.rows;
    }
    expect(at).toBe(firstRow + rows);
  });
}

/** Reads a plan's words as the kernels do: the page and slab of each position that a row may look at. */
function checkWords(cache: KvCache, step: readonly StepSequence[], table: SegmentTable): void {
  const words = new Array<number>(headerWords).fill(0);
  layOutTables(cache, table, words);
  expect(words.every((word) => Number.isInteger(word) && word >= 0 && word <= openEnd)).toBe(true);
  for (const { index: kind, window } of cache.kinds) {
    step.forEach(({ sequence, rows }, i) => {
      const length = sequence.length + rows;
      let position = length - 1;
      const lowest = window === undefined ? 0 : Math.max(0, sequence.length - window + 1);
      for (let index: number | undefined = table.places[i]!.leaf; index !== undefined;) {
        const at = words[4 * kind]! + recordWords * index;
        const [start, end, firstRow, count, base, pages, modulus, slab, parent] = words.slice(
          at,
          at + recordWords,
        );
        const { segment, ...stretch } = table.stretches[index]!;
        expect([end, firstRow, count]).toEqual([
          Math.min(stretch.end, openEnd),
          stretch.firstRow,
          stretch.rows,
        ]);
        const run = segment.runs[kind]!;
        for (; position >= start! && position >= lowest; position--) {
          const page = Math.floor((position - base!) / cache.pageTokens);
          expect(words[pages! + (page % modulus!)]).toBe(run.ids[page - run.first]);
        }
        expect(slab).toBe(run.slab);
        expect(position < Math.max(lowest, stretch.start)).toBe(true);
        expect(parent! - 1).toBe(stretch.parent ?? -1);
        index = stretch.parent;
      }
      expect(position).toBe(lowest - 1);
    });
  }
}

describe.each(Object.entries(layouts))('%s', (_, layout) => {
  test.each([1, 2, 3, 4])('random trees %d: ranges of rows, stretches and page tables', (seed) => {
    const cache = new KvCache(device, layout, {
      pageTokens: 4,
      draftLimit: 3,
      slabBytes: 512 * 16,
      dtype: 'f32',
    });
    const random = seeded(seed);
    const sequences = randomTree(cache, random);
    for (let i = 0; i < 15; i++) {
      const step = randomStep(sequences, random);
      const table = segmentTable(step);
      checkTable(step, table);
      checkWords(cache, step, table);
      for (const { sequence, rows } of step) sequence.commit(random.integer(rows + 1));
    }
    cache.destroy();
  });
});

test('a tree of three levels, forked off in the middle too', () => {
  const cache = new KvCache(device, layouts['full']!, { pageTokens: 4, dtype: 'f32' });
  cache.ensure([100]);
  const system = grow(cache.sequence(), 10);
  const documents = [system.fork(), system.fork()].map((sequence) => grow(sequence, 6));
  const early = system.fork(7);
  const samples = [documents[0]!.fork(), documents[1]!.fork(), documents[0]!.fork(), documents[0]!.fork(13)];
  const step = [early, ...samples].map((sequence) => ({ sequence, rows: 2 }));
  for (const { sequence } of step) sequence.reserve(2);
  const table = segmentTable(step);
  checkTable(step, table);
  expect(
    table.stretches.map(({ start, end, firstRow, rows, parent }) => [start, end, firstRow, rows, parent]),
  ).toEqual([
    [0, 7, 0, 10, undefined],
    [7, 10, 0, 8, 0],
    [10, 13, 0, 6, 1],
    [13, 16, 0, 4, 2],
    [16, Infinity, 0, 2, 3],
    [16, Infinity, 2, 2, 3],
    [13, Infinity, 4, 2, 2],
    [10, 16, 6, 2, 1],
    [16, Infinity, 6, 2, 7],
    [7, Infinity, 8, 2, 0],
  ]);
  expect(table.places.map(({ firstRow, leaf }) => [firstRow, leaf])).toEqual([
    [8, 9],
    [0, 4],
    [6, 8],
    [2, 5],
    [4, 6],
  ]);
  cache.destroy();
});

test('refuses rows that were not reserved, and a sequence twice', () => {
  const cache = new KvCache(device, layouts['full']!, { pageTokens: 4, dtype: 'f32' });
  const sequence = grow(cache.sequence(), 5);
  const entry = { sequence, rows: 3 };
  expect(() => segmentTable([{ sequence, rows: 4 }])).toThrow(
    'sequence 0 of a step has 4 rows, and 3 reserved',
  );
  expect(() => segmentTable([{ sequence, rows: 0 }])).toThrow('sequence 0 of a step has 0 rows');
  expect(() => segmentTable([entry, entry])).toThrow('sequence 1 is twice in a step');
  expect(() => segmentTable([{ sequence: cache.sequence(), rows: 1 }])).toThrow('sequence 0 of a step');
  const fork = sequence.fork();
  expect(() => segmentTable([entry])).toThrow('sequence 0 of a step has 3 rows, and 0 reserved');
  fork.release();
  expect(segmentTable([entry]).rows).toBe(3);
  cache.destroy();
});
