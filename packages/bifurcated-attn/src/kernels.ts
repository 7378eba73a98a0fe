import type { KvCache, KvLayout } from '@ensample/kv-cache';
import { bytesPerElement } from '@ensample/tensor';
import { attendMatrix } from './attend-matrix.wgsl.ts';
import { attendTile } from './attend-tile.wgsl.ts';
import { attendThread, attendTiles } from './attend.wgsl.ts';

/** A way to attend: its kernel, and how many query vectors share a read of the keys. */
export interface AttendVariant {
  readonly name: string;
  readonly body: string;
  /** Element of the `kv` binding: four values of a key or value, or eight f16 as bits. */
  readonly unit: string;
  /** Query vectors of a task, at most. */
  readonly vectors: number;
  readonly constants?: Readonly<Record<string, number>>;
  /** Parts that a long stretch is split into, at most, per key/value head. Default: as many as it has chunks. */
  readonly parts?: number;
  readonly extensions: readonly string[];
}

const matrixExtensions = ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'];

/** Workgroups of one layer that fill a large GPU once. */
const residentWorkgroups = 512;

/** Query vectors of a task of `attendMatrix`, a tile of a subgroup matrix, and keys of its round. */
const tileVectors = 16;
const roundKeys = 32;

/** Workgroup memory that `attendMatrix` takes: queries and keys, scores, weights and what it notes by vector. */
function matrixBytes(headDim: number): number {
  const tiles = 2 * (tileVectors + roundKeys) * (headDim + 8);
  const scores = 4 * tileVectors * (Math.max(roundKeys, headDim) + 8);
  return tiles + scores + 2 * tileVectors * (roundKeys + 8) + 16 * tileVectors + 128;
}

/** Keys of a round of `attendTile`: what fits in the 16 KiB of workgroup memory that every device has, up to 32. */
function tileKeys(vectors: number, headDim: number, elementBytes: number): number {
  const bytes = (keys: number) => 4 * vectors * (headDim + keys + 3) + keys * (headDim + 4) * elementBytes;
  return [32, 16, 8].find((keys) => bytes(keys) <= 2 ** 14) ?? 4;
}

/** What the choice of a variant depends on. */
type Cached = Pick<KvCache, 'device' | 'dtype'> & {
  readonly layout: Pick<KvLayout, 'headDim' | 'kvHeads'>;
};

/** Name of the way in which steps attend: a kernel, and the most query vectors that share a read of the keys. */
export function attentionVariant(cache: Cached): string {
  const { name, vectors } = attendVariant(cache);
  return `${name}${vectors}`;
}

/** The variant for a cache: what its device's tier has, as far as element type and head size suit it. */
export function attendVariant({ device, dtype, layout }: Cached): AttendVariant {
  const { headDim, kvHeads } = layout;
  const unit = `vec4<${dtype}>`;
  if (device.tier.attention === 'thread') {
    return { name: 'thread', body: attendThread, unit, vectors: 16, extensions: [] };
  }
  const room = device.gpu.limits.maxComputeWorkgroupStorageSize;
  const fits = headDim % 16 === 0 && matrixBytes(headDim) <= room;
  if (device.tier.attention === 'matrix' && dtype === 'f16' && fits) {
    return {
      name: 'matrix',
      body: attendTiles + attendMatrix,
      unit: 'vec4u',
      vectors: tileVectors,
      parts: Math.max(1, Math.floor(residentWorkgroups / kvHeads)),
      extensions: matrixExtensions,
    };
  }
  // At head size 256 a tile of 8 query vectors fills half of the 16 KiB of workgroup memory.
  const vectors = headDim > 128 ? 8 : 16;
  const keys = tileKeys(vectors, headDim, bytesPerElement[dtype]);
  return {
    name: 'tile',
    body: attendTiles + attendTile,
    unit,
    vectors,
    extensions: [],
    constants: { KEYS: keys },
  };
}
