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
  /** Of the `kv` binding. Default `'read'`. */
  readonly access?: 'read_write';
  /** Query vectors of a task, at most. */
  readonly vectors: number;
  readonly constants?: Readonly<Record<string, number>>;
  readonly extensions: readonly string[];
}

/** A way to attend. */
export interface AttendVariant {
  readonly name: string;
  /** Those whose vectors share a read of the keys, the smallest tile first. */
  readonly many: readonly AttendKernel[];
  /** For tasks that would leave most of a tile empty, likewise; there may be none. */
  readonly few: readonly AttendKernel[];
  /** Parts that a long stretch is split into, at most, per key/value head. Default: as many as it has chunks. */
  readonly parts?: number;
}

/** How attention on subgroup matrices is laid out. */
export interface MatrixLayout {
  /** Query vectors of a task, at most: a multiple of 16, the size of a matrix. */
  readonly vectors: number;
  /** Subgroups that have 16 of them together. */
  readonly shares: number;
  /** Keys of a round: a multiple of 16. */
  readonly keys: number;
}

/** Measured on an H100 (docs/performance-log.md). */
const matrixLayouts: readonly MatrixLayout[] = [
  { vectors: 16, shares: 2, keys: 16 },
  { vectors: 32, shares: 2, keys: 16 },
  { vectors: 64, shares: 1, keys: 32 },
];
/** Workgroups of one layer that long stretches are split into. */
const matrixWorkgroups = 512;

/** Workgroup memory that `attendMatrix` takes: keys or values, scores, weights and what subgroups tell each other. */
function matrixBytes({ vectors, shares, keys }: MatrixLayout, headDim: number): number {
  const subgroups = (vectors / 16) * shares;
  return 2 * keys * (headDim + 8) + subgroups * (64 * (keys + 4) + 12) + vectors * (2 * keys + 20);
}

/** Keys of a round of `attendTile`: what fits in the 16 KiB of workgroup memory that every device has, up to 32. */
function tileKeys(vectors: number, headDim: number, elementBytes: number): number {
  const bytes = (keys: number) => 4 * vectors * (headDim + keys + 3) + keys * (headDim + 4) * elementBytes;
  return [32, 16, 8].find((keys) => bytes(keys) <= 2 ** 14) ?? 4;
}

/** What the choice of a variant depends on. */
export type Cached = Pick<KvCache, 'device' | 'dtype'> & {
  readonly layout: Pick<KvLayout, 'headDim' | 'kvHeads'>;
};

/** The kernel for a task or a step of so many query vectors: the smallest that holds them, else the largest. */
export function kernelFor(kernels: readonly AttendKernel[], count: number): AttendKernel | undefined {
  return kernels.find(({ vectors }) => vectors >= count) ?? kernels.at(-1);
}

/** Name of the way in which a step of so many query vectors of a key/value head attends, and how many it holds. */
export function attentionVariant(cache: Cached, count: number): string {
  const { name, many, few } = attendVariant(cache);
  const own = few.find(({ vectors }) => vectors >= count);
  return own ? `few${own.vectors}` : `${name}${kernelFor(many, count)?.vectors ?? 0}`;
}

/** The variant for a cache: what its device's tier has, as far as element type and head size suit it. */
export function attendVariant(cache: Cached): AttendVariant {
  const { attention } = cache.device.tier;
  if (attention === 'thread') return threadVariant(cache);
  return (attention === 'matrix' ? matrixVariant(cache) : undefined) ?? tileVariant(cache);
}

function threadVariant({ dtype }: Cached): AttendVariant {
  const thread: AttendKernel = {
    body: attendThread,
    unit: `vec4<${dtype}>`,
    vectors: 16,
    extensions: [],
    constants: { VECTORS: 16 },
  };
  return { name: 'thread', many: [thread], few: [] };
}

/**
 * Attention by subgroup matrices; undefined where subgroups, element type, head size or workgroup memory do not suit it.
 * @param layouts default: those that were measured best.
 * @param workgroups of one layer that long stretches are split into.
 */
export function matrixVariant(
  cache: Cached,
  layouts: readonly MatrixLayout[] = matrixLayouts,
  workgroups: number = matrixWorkgroups,
): AttendVariant | undefined {
  const { headDim, kvHeads } = cache.layout;
  const many = layouts.filter((layout) => suits(cache, layout)).map(matrixKernel);
  if (cache.dtype !== 'f16' || headDim % 16 !== 0 || many.length === 0) return undefined;
  const parts = Math.max(1, Math.floor(workgroups / kvHeads));
  return { name: 'matrix', many, few: fewKernels(cache), parts };
}

function suits({ device: { gpu, info }, layout: { headDim } }: Cached, layout: MatrixLayout): boolean {
  const { vectors, shares, keys } = layout;
  return (
    matrixBytes(layout, headDim) <= gpu.limits.maxComputeWorkgroupStorageSize &&
    (2 * vectors * shares) % info.subgroupMaxSize === 0 &&
    keys % (8 * shares) === 0 // an invocation softens four keys of a round, or more
  );
}

/** Nothing is written to the cache: but where it could be, compilers do not move its loads to the end of a round. */
function matrixKernel({ vectors, shares, keys }: MatrixLayout): AttendKernel {
  return {
    body: attendTasks + attendMatrix,
    unit: 'vec4u',
    access: 'read_write',
    vectors,
    extensions: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
    constants: { VECTORS: vectors, SHARES: shares, KEYS: keys },
  };
}

/**
 * Attention by FMA: for every GPU, element type and head size.
 * @param few kernels for few query vectors. Default: those that the device has.
 */
export function tileVariant(cache: Cached, few: readonly AttendKernel[] = fewKernels(cache)): AttendVariant {
  const { dtype, layout } = cache;
  // At head size 256 a tile of 8 query vectors fills half of the 16 KiB of workgroup memory.
  const vectors = layout.headDim > 128 ? 8 : 16;
  const keys = tileKeys(vectors, layout.headDim, bytesPerElement[dtype]);
  const tile: AttendKernel = {
    body: attendTasks + attendTile,
    unit: `vec4<${dtype}>`,
    vectors,
    extensions: [],
    constants: { VECTORS: vectors, KEYS: keys },
  };
  return { name: 'tile', many: [tile], few };
}

/** Attention for few query vectors, fewer where heads are large; none where subgroups are smaller than a team. */
function fewKernels({ device, dtype, layout }: Cached): AttendKernel[] {
  const join = device.tier.reduce === 'subgroup' ? joinOf(device.info) : 0;
  if (join === 0) return [];
  const { headDim } = layout;
  const halved = dtype === 'f16' && headDim % 8 === 0;
  const room = device.gpu.limits.maxComputeWorkgroupStorageSize;
  const sizes = (headDim > 128 ? [2] : [2, 4]) // what registers hold
    .filter((vectors) => vectors * (128 / join) * (4 * headDim + 12) <= room);
  return sizes.map((vectors) => ({
    body: (halved ? halfUnits : quadUnits) + attendTasks + attendFew,
    unit: halved ? 'vec4u' : `vec4<${dtype}>`,
    vectors,
    extensions: ['subgroups'],
    constants: { FEW: vectors, JOIN: join },
  }));
}

/** Invocations that can shuffle with each other: 32 or 16, as every subgroup has; 0 where they are smaller than a team. */
function joinOf({ subgroupMinSize }: GPUAdapterInfo): number {
  return [32, 16].find((size) => subgroupMinSize >= size) ?? 0;
}
