import { invariant, kernel, type Batch, type GpuTensor, type Pass } from '@ensample/tensor';
import type { KvCache } from './cache.ts';
import { appendBody, segmentChunk } from './segments.wgsl.ts';

/** Constants that {@link segmentChunk} needs for a layer. */
export function segmentConstants(cache: KvCache, kind: number, slab: number): Record<string, number> {
  const { kvHeads, headDim } = cache.layout;
  return { KIND: kind, SLAB: slab, PAGE: cache.pageTokens, KV_HEADS: kvHeads, HEAD_DIM: headDim };
}

/** What a kernel must enable, and the alias KV, for the cache's element type. */
export function kvPrelude(cache: KvCache): { enable: string[]; aliases: { KV: string } } {
  return { enable: cache.dtype === 'f16' ? ['f16'] : [], aliases: { KV: cache.dtype } };
}

/**
 * Writes the keys and values of a step's rows into the pages of an owner layer. A row of x is
 * `[queries, keys, values]`, with keys from `keysAt` on; a row's page follows from its leaf and position.
 */
export function append(
  pass: Pass,
  cache: KvCache,
  layer: number,
  { batch, plan, x }: { batch: Batch; plan: GpuTensor<'u32'>; x: GpuTensor<'f32'> },
  { stride, keysAt, rows }: { stride: number; keysAt: number; rows: number },
): void {
  const place = cache.places[layer];
  invariant(place?.owns, () => `layer ${layer} owns no KV to append to`);
  const { kvHeads, headDim } = cache.layout;
  const grid = [Math.ceil((2 * kvHeads * headDim) / 4 / 64), rows] as const;
  for (let slab = 0; slab < cache.slabs; slab++) {
    const kv = cache.buffer(layer, slab);
    if (!kv) continue;
    const constants = { ...segmentConstants(cache, place.kind, slab), STRIDE: stride, KEYS: keysAt };
    pass.run(
      kernel('append', { ...kvPrelude(cache), constants }, segmentChunk, appendBody),
      { batch, plan, x, kv },
      grid,
    );
  }
}
