import type { KvCache, KvLayout } from '@ensample/kv-cache';
import { bytesPerElement } from '@ensample/tensor';
import { attendFew, attendNoFew } from './attend-few.wgsl.ts';
import { attendMatrix } from './attend-matrix.wgsl.ts';
import { attendTile } from './attend-tile.wgsl.ts';
import { attendTasks, attendThread } from './attend.wgsl.ts';

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

/** How `attendMatrix` is laid out. */
export interface MatrixLayout {
  /** Query vectors of a task, at most: a multiple of 16, the size of a matrix, one for each subgroup. */
  readonly vectors: number;
  /** Tasks of up to so many query vectors go without matrices. */
  readonly few: number;
  /** Workgroups of one layer that long stretches are split into. */
  readonly workgroups: number;
}

/** Measured on an H100 (docs/performance-log.md). */
const matrixLayout: MatrixLayout = { vectors: 16, few: 4, workgroups: 1024 };

/** Workgroup memory that `attendMatrix` takes: queries, keys or values, scores, weights and what subgroups tell each other. */
function matrixBytes({ vectors, few }: MatrixLayout, headDim: number): number {
  const subgroups = vectors / 16;
  return 32 * (headDim + 8) + vectors * (4 * 20 + 2 * 24) + (12 + 12 * few) * subgroups;
}

/** Whether sums of few vectors fit where keys lie. */
function isLayout({ vectors, few }: MatrixLayout, headDim: number): boolean {
  return vectors % 16 === 0 && few * (vectors / 16) * headDim <= 8 * (headDim + 8);
}

/** Workgroup memory that tasks of few vectors take, at most. */
const joints = 3 * 4 * 16;

/** Keys of a round of `attendTile`: what fits in the 16 KiB of workgroup memory that every device has, up to 32. */
function tileKeys(vectors: number, headDim: number, elementBytes: number): number {
  const bytes = (keys: number) =>
    4 * vectors * (headDim + keys + 3) + keys * (headDim + 4) * elementBytes + joints;
  return [32, 16, 8].find((keys) => bytes(keys) <= 2 ** 14) ?? 4;
}

/** What the choice of a variant depends on. */
export type Cached = Pick<KvCache, 'device' | 'dtype'> & {
  readonly layout: Pick<KvLayout, 'headDim' | 'kvHeads'>;
};

/** Name of the way in which steps attend: a kernel, and the most query vectors that share a read of the keys. */
export function attentionVariant(cache: Cached): string {
  const { name, vectors } = attendVariant(cache);
  return `${name}${vectors}`;
}

/** The variant for a cache: what its device's tier has, as far as element type and head size suit it. */
export function attendVariant(cache: Cached): AttendVariant {
  const { attention } = cache.device.tier;
  if (attention === 'thread') return threadVariant(cache);
  return (attention === 'matrix' ? matrixVariant(cache) : undefined) ?? tileVariant(cache);
}

function threadVariant({ dtype }: Cached): AttendVariant {
  return { name: 'thread', body: attendThread, unit: `vec4<${dtype}>`, vectors: 16, extensions: [] };
}

/** Attention by subgroup matrices; undefined where element type, head size, workgroup memory or the layout do not suit it. */
export function matrixVariant(
  { device, dtype, layout }: Cached,
  shape: MatrixLayout = matrixLayout,
): AttendVariant | undefined {
  const { headDim, kvHeads } = layout;
  const { vectors, few, workgroups } = shape;
  const room = device.gpu.limits.maxComputeWorkgroupStorageSize;
  const fits = matrixBytes(shape, headDim) <= room && isLayout(shape, headDim);
  if (dtype !== 'f16' || headDim % 16 !== 0 || !fits) return undefined;
  return {
    name: 'matrix',
    body: attendTasks + attendMatrix + attendFew,
    unit: 'vec4u',
    vectors,
    parts: Math.max(1, Math.floor(workgroups / kvHeads)),
    extensions: matrixExtensions,
    constants: { FEW: few, JOIN: 32 },
  };
}

/**
 * Attention by FMA: for every GPU, element type and head size.
 * @param most tasks of up to so many query vectors go without a tile. Default: as many as can.
 */
export function tileVariant(
  { device, dtype, layout: { headDim } }: Cached,
  most: number = Infinity,
): AttendVariant {
  // At head size 256 a tile of 8 query vectors fills half of the 16 KiB of workgroup memory.
  const vectors = headDim > 128 ? 8 : 16;
  const join = device.tier.reduce === 'subgroup' ? joinOf(device.info) : 0;
  const few = Math.min(most, Math.floor((vectors * join) / 128)); // whose sums fit where the queries of a tile lie
  const keys = tileKeys(vectors, headDim, bytesPerElement[dtype]);
  return {
    name: 'tile',
    body: attendTasks + attendTile + (few > 0 ? attendFew : attendNoFew),
    unit: `vec4<${dtype}>`,
    vectors,
    extensions: few > 0 ? ['subgroups'] : [],
    constants: { KEYS: keys, ...(few > 0 && { FEW: few, JOIN: join }) },
  };
}

/** Invocations that can shuffle with each other: 32 or 16, as every subgroup has; 0 where they are smaller than a team. */
function joinOf({ subgroupMinSize }: GPUAdapterInfo): number {
  return [32, 16].find((size) => subgroupMinSize >= size) ?? 0;
}
