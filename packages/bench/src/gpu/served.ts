import { KvCache, pagesFor, type Sequence } from '@ensample/kv-cache';
import type { Decoder } from '@ensample/mixattn-model';
import { OutOfMemoryError, type Device } from '@ensample/tensor';
import { drawKv } from './draw.ts';

/** How much is served. */
export interface ServedSize {
  /** Tokens of a prompt, each sequence its own. */
  readonly prompt: number;
  /** Tokens that a sequence is given after it. */
  readonly output: number;
  /** Bytes for weights, KV and all else. */
  readonly memory: number;
}

/** Sequences of one length, each with a prompt of its own. */
export interface Served {
  readonly cache: KvCache;
  readonly sequences: readonly Sequence[];
  readonly kvBytesPerSequence: number;
}

/** Where memory ends sooner than was said, this share of the sequences is tried next. */
const fewer = 0.93;

/** Fills the memory with sequences in the middle of their output, and calls `use`. */
export async function withMostSequences<T>(
  device: Device,
  decoder: Decoder,
  { prompt, output, memory }: ServedSize,
  use: (served: Served) => Promise<T>,
): Promise<T> {
  const tokens = prompt + output;
  const { vocabSize, hiddenSize, intermediateSize } = decoder.config;
  const rowBytes = 4 * (vocabSize + 6 * hiddenSize + intermediateSize);
  for (let most = Infinity; most >= 1; most *= fewer) {
    await device.gpu.queue.onSubmittedWorkDone(); // what was freed before is free now
    const cache = cacheFor(device, decoder, tokens);
    const kvBytesPerSequence = cache.pools.reduce((sum, pool, k) => {
      return sum + pagesOf(cache, tokens, k) * pool.pageBytes * pool.shape.owners;
    }, 0);
    const room = memory - device.memory.bytes;
    most = Math.floor(Math.min(most, room / (kvBytesPerSequence + rowBytes)));
    try {
      await device.checkMemory(`KV of ${most} sequences`, () => makePages(cache, tokens, most));
      await drawKv(cache);
      const sequences = Array.from({ length: most }, () => sequenceOf(cache, prompt + output / 2));
      return await use({ cache, sequences, kvBytesPerSequence });
    } catch (error) {
      if (!(error instanceof OutOfMemoryError)) throw error;
    } finally {
      cache.destroy();
    }
  }
  throw new OutOfMemoryError('not even one sequence fits');
}

/** Pages of a sequence that takes a token at a time. */
function pagesOf(cache: KvCache, tokens: number, kind: number): number {
  const window = cache.kinds[kind]?.window;
  return pagesFor({ window }, tokens, 1, cache);
}

/** A cache whose slabs hold whole sequences. */
function cacheFor(device: Device, { layout }: Decoder, tokens: number): KvCache {
  const { pools, pageTokens } = new KvCache(device, layout);
  const longest = Math.max(...pools.map(({ pageBytes }) => pageBytes)) * Math.ceil(tokens / pageTokens);
  const inSlab = Math.floor(device.maxBindingBytes / longest);
  return new KvCache(device, layout, inSlab > 0 ? { slabBytes: inSlab * longest } : {});
}

/** Allocates the pages of `count` sequences; none lies in two slabs. */
function makePages(cache: KvCache, tokens: number, count: number): void {
  const pages = cache.pools.map(({ slabPages }, k) => {
    const each = pagesOf(cache, tokens, k);
    const inSlab = Math.floor(slabPages / each);
    return Math.floor(count / inSlab) * slabPages + (count % inSlab) * each;
  });
  cache.ensure(pages);
}

/** A sequence with `tokens` tokens stored and room for one more; windows have moved on page by page. */
function sequenceOf(cache: KvCache, tokens: number): Sequence {
  const sequence = cache.sequence();
  while (sequence.length < tokens) {
    const part = Math.min(cache.pageTokens, tokens - sequence.length);
    sequence.reserve(part);
    sequence.commit(part);
  }
  sequence.reserve(1);
  return sequence;
}
