import {
  invariant,
  kernel,
  productBuffers,
  turnChunk,
  type Batch,
  type Epilogue,
  type GpuTensor,
  type Pass,
} from '@ensample/tensor';
import type { KvCache } from './cache.ts';
import { appendStore, ropeAppendBody, segmentChunk } from './segments.wgsl.ts';

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
 * Gives a step's rows their positions and stores what an owner layer keeps of them, in one dispatch for each slab: queries
 * are turned in place (RoPE of neighbours, see `rope` of `@ensample/tensor`), keys are turned on the way into their pages,
 * values are copied. A row of x is `[queries, keys, values]`; its page follows from its leaf and position.
 * @param angles from `ropeAngles` of `@ensample/tensor`.
 */
export function ropeAppend(
  pass: Pass,
  cache: KvCache,
  layer: number,
  tensors: { batch: Batch; plan: GpuTensor<'u32'>; angles: GpuTensor<'f32'>; x: GpuTensor<'f32'> },
  { heads, rows }: { heads: number; rows: number },
): void {
  const place = cache.places[layer];
  invariant(place?.owns, () => `layer ${layer} owns no KV to append to`);
  const { kvHeads, headDim } = cache.layout;
  let firstHead = 0;
  for (let slab = 0; slab < cache.slabs; slab++) {
    const kv = cache.buffer(layer, slab);
    if (!kv) continue;
    const constants = {
      ...segmentConstants(cache, place.kind, slab),
      HEADS: heads,
      FIRST_HEAD: firstHead,
    };
    const grid = [Math.ceil(((heads + 2 * kvHeads - firstHead) * headDim) / 4 / 64), rows] as const;
    const code = kernel('rope_append', { ...kvPrelude(cache), constants }, segmentChunk, ropeAppendBody);
    pass.run(code, { ...tensors, kv }, grid);
    firstHead = heads; // the first slab's dispatch has turned the queries
  }
}

/**
 * {@link ropeAppend} as a part of the product that computes queries, keys and values, whose rows of y are then `[queries, turned,
 * nothing]`. Undefined where that cannot be: in a cache of several slabs, and on a device that binds too few buffers.
 */
export function appendEpilogue(
  cache: KvCache,
  layer: number,
  { plan, angles }: { plan: GpuTensor<'u32'>; angles: GpuTensor<'f32'> },
  heads: number,
): Epilogue | undefined {
  const place = cache.places[layer];
  invariant(place?.owns, () => `layer ${layer} owns no KV to append to`);
  const kv = cache.slabs === 1 ? cache.buffer(layer, 0) : undefined;
  const { maxStorageBuffersPerShaderStage: most } = cache.device.gpu.limits;
  if (!kv || most < productBuffers + 3) return undefined;
  const constants = { ...segmentConstants(cache, place.kind, 0), HEADS: heads };
  return {
    prelude: { ...kvPrelude(cache), constants },
    chunks: [turnChunk, segmentChunk, appendStore],
    tensors: { plan, angles, kv },
  };
}
