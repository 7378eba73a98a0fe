import type { KvCache, KvLayout } from '@ensample/kv-cache';
import { bytesPerElement } from '@ensample/tensor';
import { attendFew, halfUnits, quadUnits } from './attend-few.wgsl.ts';
import { attendMatrix } from './attend-matrix.wgsl.ts';
import { attendTile } from './attend-tile.wgsl.ts';
import { attendTasks, attendThread } from './attend.wgsl.ts';

/** A kernel for tasks of up to so many query vectors. */
export interface AttendKernel {
  readonly body: string;
  /** Element of the `kv` binding: four values of a key or value, or eight f16 as bits. */
  readonly unit: string;
  /** Query vectors of a task, at most. */
  readonly vectors: number;
  readonly constants?: Readonly<Record<string, number>>;
  readonly extensions: readonly string[];
}

/** A way to attend. */
export interface AttendVariant {
  readonly name: string;
  /** Its `vectors` share a read of the keys. */
  readonly many: AttendKernel;
  /** For tasks that would leave most of a tile of `many` empty. Default: these are `many`'s as well. */
  readonly few?: AttendKernel | undefined;
  /** Parts that a long stretch is split into, at most, per key/value head. Default: as many as it has chunks. */
  readonly parts?: number;
}

const matrixExtensions = ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'];

/** How attention on subgroup matrices is laid out. */
export interface MatrixLayout {
  /** Query vectors of a task, at most: a multiple of 16, the size of a matrix. */
  readonly vectors: number;
  /** Subgroups that have 16 of them together. */
  readonly shares: number;
  /** Keys of a round: a multiple of 16. */
  readonly keys: number;
  /** Tasks of up to so many query vectors go without matrices. */
  readonly few: number;
  /** Subgroups of a workgroup that attends for few. */
  readonly fewSubgroups: number;
  /** Workgroups of one layer that long stretches are split into. */
  readonly workgroups: number;
}

/** Measured on an H100 (docs/performance-log.md). */
const matrixLayout: MatrixLayout = {
  ...{ vectors: 16, shares: 2, keys: 16 },
  ...{ few: 4, fewSubgroups: 4, workgroups: 512 },
};

/** Workgroup memory that `attendMatrix` takes: keys or values, scores, weights and what subgroups tell each other. */
function matrixBytes({ vectors, shares, keys }: MatrixLayout, headDim: number): number {
  const subgroups = (vectors / 16) * shares;
  return 2 * keys * (headDim + 8) + subgroups * (64 * (keys + 4) + 12) + vectors * (2 * keys + 20);
}

/** Keys of a round of `attendTile`: what fits in the 16 KiB of workgroup memory that every device has, up to 32. */
function tileKeys(vectors: number, headDim: number, elementBytes: number): number {
  const bytes = (keys: number) =>
    4 * vectors * (headDim + keys + 3) + keys * (headDim + 4) * elementBytes;
  return [32, 16, 8].find((keys) => bytes(keys) <= 2 ** 14) ?? 4;
}

/** What the choice of a variant depends on. */
export type Cached = Pick<KvCache, 'device' | 'dtype'> & {
  readonly layout: Pick<KvLayout, 'headDim' | 'kvHeads'>;
};

/** Name of the way in which steps attend: a kernel, and the most query vectors that share a read of the keys. */
export function attentionVariant(cache: Cached): string {
  const { name, many } = attendVariant(cache);
  return `${name}${many.vectors}`;
}

/** The variant for a cache: what its device's tier has, as far as element type and head size suit it. */
export function attendVariant(cache: Cached): AttendVariant {
  const { attention } = cache.device.tier;
  if (attention === 'thread') return threadVariant(cache);
  return (attention === 'matrix' ? matrixVariant(cache) : undefined) ?? tileVariant(cache);
}

function threadVariant({ dtype }: Cached): AttendVariant {
  return {
    name: 'thread',
    many: {
      body: attendThread,
      unit: `vec4<${dtype}>`,
      vectors: 16,
      extensions: [],
      constants: { VECTORS: 16 },
    },
  };
}

/** Attention by subgroup matrices; undefined where subgroups, element type, head size or workgroup memory do not suit it. */
export function matrixVariant(
  cache: Cached,
  shape: MatrixLayout = matrixLayout,
): AttendVariant | undefined {
  const { device, dtype, layout } = cache;
  const { vectors, shares, keys, few, fewSubgroups, workgroups } = shape;
  const fits =
    matrixBytes(shape, layout.headDim) <= device.gpu.limits.maxComputeWorkgroupStorageSize &&
    (2 * vectors * shares) % device.info.subgroupMaxSize === 0 &&
    keys % (8 * shares) === 0; // an invocation softens four keys of a round, or more
  if (dtype !== 'f16' || layout.headDim % 16 !== 0 || !fits) return undefined;
  return {
    name: 'matrix',
    many: {
      body: attendTasks + attendMatrix,
      unit: 'vec4u',
      vectors,
      extensions: matrixExtensions,
      constants: { VECTORS: vectors, SHARES: shares, KEYS: keys },
    },
    few: fewKernel(cache, few, fewSubgroups),
    parts: Math.max(1, Math.floor(workgroups / layout.kvHeads)),
  };
}

/**
 * Attention by FMA: for every GPU, element type and head size.
 * @param most tasks of up to so many query vectors go without a tile. Default 4.
 */
export function tileVariant(cache: Cached, most: number = 4): AttendVariant {
  const { dtype, layout } = cache;
  // At head size 256 a tile of 8 query vectors fills half of the 16 KiB of workgroup memory.
  const vectors = layout.headDim > 128 ? 8 : 16;
  const keys = tileKeys(vectors, layout.headDim, bytesPerElement[dtype]);
  return {
    name: 'tile',
    many: {
      body: attendTasks + attendTile,
      unit: `vec4<${dtype}>`,
      vectors,
      extensions: [],
      constants: { VECTORS: vectors, KEYS: keys },
    },
    few: fewKernel(cache, most, 4),
  };
}

/** Attention for up to `most` query vectors, which is fewer where heads are large; none where subgroups are smaller than a team. */
function fewKernel({ device, dtype, layout }: Cached, most: number, subgroups: number): AttendKernel | undefined {
  const join = device.tier.reduce === 'subgroup' ? joinOf(device.info) : 0;
  const vectors = Math.min(most, layout.headDim > 128 ? 2 : 4); // what registers hold
  if (join === 0 || vectors === 0) return undefined;
  const halved = dtype === 'f16' && layout.headDim % 8 === 0;
  return {
    body: (halved ? halfUnits : quadUnits) + attendTasks + attendFew,
    unit: halved ? 'vec4u' : `vec4<${dtype}>`,
    vectors,
    extensions: ['subgroups'],
    constants: { FEW: vectors, JOIN: join, WIDTH: 32 * subgroups },
  };
}

/** Invocations that can shuffle with each other: 32 or 16, as every subgroup has; 0 where they are smaller than a team. */
function joinOf({ subgroupMinSize }: GPUAdapterInfo): number {
  return [32, 16].find((size) => subgroupMinSize >= size) ?? 0;
}
