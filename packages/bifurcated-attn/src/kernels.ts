import type { KvCache, KvLayout } from '@ensample/kv-cache';
import { attendMatrix } from './attend-matrix.wgsl.ts';
import { attendThread, attendTile } from './attend.wgsl.ts';

/** A way to attend: its kernel, and how many query vectors share a read of the keys. */
export interface AttendVariant {
  readonly name: string;
  readonly body: string;
  /** Element of the `kv` binding: four values of a key or value, or eight f16 as bits. */
  readonly unit: string;
  /** Query vectors of a task, at most, in a step of so many. A kernel for more takes tasks of fewer. */
  vectors(step: number): number;
  /** Parts that a long stretch is split into, at most, per key/value head. Default: as many as it has chunks. */
  readonly parts?: number;
  readonly extensions: readonly string[];
  readonly constants: Readonly<Record<string, number>>;
}

const matrixExtensions = ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'];

/** Workgroups of one layer that fill a large GPU once. */
const residentWorkgroups = 512;

/** What the choice of a variant depends on. */
type Cached = Pick<KvCache, 'device' | 'dtype'> & { readonly layout: Pick<KvLayout, 'headDim' | 'kvHeads'> };

/**
 * Name of the way in which a step of up to `rows` rows attends: a kernel, and the most query vectors that share a read of
 * the keys.
 */
export function attentionVariant(cache: Cached, { heads, rows }: { heads: number; rows: number }): string {
  const variant = attendVariant(cache);
  return `${variant.name}${variant.vectors((rows * heads) / cache.layout.kvHeads)}`;
}

/** The variant for a cache: what its device's tier has, as far as element type and head size suit it. */
export function attendVariant({ device, dtype, layout }: Cached): AttendVariant {
  const { headDim, kvHeads } = layout;
  const unit = `vec4<${dtype}>`;
  if (device.tier.attention === 'thread') {
    return { name: 'thread', body: attendThread, unit, vectors: () => 16, extensions: [], constants: {} };
  }
  const narrow = headDim > 128;
  const room = device.gpu.limits.maxComputeWorkgroupStorageSize;
  if (device.tier.attention === 'matrix' && dtype === 'f16' && headDim % 16 === 0 && room >= 2 ** 15) {
    // 32 vectors take 40 KiB of workgroup memory at a head size of 128; at 256, 16 take 38.
    const most = narrow || room < 40 * 1024 ? 16 : 32;
    return {
      name: 'matrix',
      body: attendMatrix,
      unit: 'vec4u',
      vectors: (step) => (step <= 16 ? 16 : most),
      parts: Math.max(1, Math.floor(residentWorkgroups / kvHeads)),
      extensions: matrixExtensions,
      constants: { KEYS: narrow ? 32 : 64 },
    };
  }
  // At head size 256 a tile of 8 query vectors fills half of the 16 KiB of workgroup memory.
  return {
    name: 'tile',
    body: attendTile,
    unit,
    vectors: () => (narrow ? 8 : 16),
    extensions: [],
    constants: {},
  };
}
