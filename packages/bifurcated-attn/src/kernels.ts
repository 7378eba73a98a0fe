import type { KvCache, KvLayout } from '@ensample/kv-cache';
import { bytesPerElement, eightColumns, invariant, subgroupMatrices, type Prelude } from '@ensample/tensor';
import { attendFew, halfUnits, onlyFew, quadUnits } from './attend-few.wgsl.ts';
import { attendMatrix } from './attend-matrix.wgsl.ts';
import { attendTeam } from './attend-team.wgsl.ts';
import { attendTile } from './attend-tile.wgsl.ts';
import { attendByCount, attendByMany, attendTasks, attendThread, seenSpan } from './attend.wgsl.ts';
import type { Tile } from './plan.ts';

/** A kernel for steps and tasks of up to so many query vectors of a key/value head; larger steps have several tasks. */
export interface AttendKernel {
  /** What `ensample info` calls it, before the number of vectors. */
  readonly name: string;
  readonly body: string;
  /** Element of the `kv` binding: four values of a key or value, or eight f16 as bits. */
  readonly unit: string;
  /** Of the `kv` binding. Default `'read'`. */
  readonly access?: 'read_write';
  /** Query vectors of a task, at most. */
  readonly vectors: number;
  readonly constants?: Readonly<Record<string, number>>;
  readonly extensions: Pick<Prelude, 'enable' | 'directives'>;
}

/** A way to attend. */
export interface AttendVariant {
  /** The smallest first: a step is recorded with the first that holds all its vectors, else with the last. */
  readonly kernels: readonly AttendKernel[];
  /** What tasks are cut by. */
  readonly tiles: readonly Tile[];
  /** Tasks of up to so many vectors would leave most of a tile empty: kernels take them in another way. */
  readonly few: number;
}

/** How attention on subgroup matrices is laid out. */
export interface MatrixLayout {
  /** Query vectors of a task, at most: a multiple of 16, the size of a matrix. */
  readonly vectors: number;
  /** Subgroups that have 16 of them together. */
  readonly shares: number;
  /** Keys of a round: a multiple of 16. */
  readonly keys: number;
  /** Tasks of all heads that long stretches are cut into: as many as a large GPU has at once. */
  readonly tasks: number;
}

/** Measured on an H100 (docs/performance-log.md). */
const matrixLayouts: readonly MatrixLayout[] = [
  { vectors: 16, shares: 2, keys: 16, tasks: 512 },
  { vectors: 32, shares: 2, keys: 32, tasks: 192 },
  { vectors: 64, shares: 1, keys: 32, tasks: 256 },
];
/** The same for tasks of few vectors. */
const fewTasks = 512;

/** Sixteens of bytes in which `attendMatrix` has keys or values, and scores. */
function matrixRoom({ vectors, shares, keys }: MatrixLayout, headDim: number): number {
  return keys * (headDim / 8 + 1) + vectors * shares * (keys / 4 + 1);
}

/** Workgroup memory that it takes, with weights and what subgroups tell each other. */
function matrixBytes(layout: MatrixLayout, headDim: number, few: Few): number {
  const { vectors, shares, keys } = layout;
  const subgroups = (vectors / 16) * shares;
  return (
    16 * matrixRoom(layout, headDim) + vectors * (2 * keys + 20) + 12 * subgroups + 12 * joints(layout, few)
  );
}

/** Sums of a vector, each of one subgroup, that `attendFew` joins in a kernel of such a layout, of all vectors. */
function joints({ vectors, shares }: MatrixLayout, few: Few): number {
  return few.vectors * Math.ceil((2 * vectors * shares) / few.join);
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

/** The kernel for a step of so many query vectors of a key/value head. */
export function kernelFor({ kernels }: AttendVariant, count: number): AttendKernel {
  const kernel = kernels.find(({ vectors }) => vectors >= count) ?? kernels.at(-1);
  invariant(kernel, () => 'a way to attend without kernels');
  return kernel;
}

/** Name of the kernel for a step of so many query vectors of a key/value head, and how many a task has at most. */
export function attentionVariant(cache: Cached, count: number): string {
  const { name, vectors } = kernelFor(attendVariant(cache), count);
  return `${name}${vectors}`;
}

/** The variant for a cache: what its device's tier has, as far as element type and head size suit it. */
export function attendVariant(cache: Cached): AttendVariant {
  const { attention } = cache.device.tier;
  if (attention === 'thread') return threadVariant(cache);
  return (
    (attention === 'matrix' ? matrixVariant(cache) : undefined) ?? teamVariant(cache) ?? tileVariant(cache)
  );
}

function threadVariant({ dtype }: Cached): AttendVariant {
  const thread: AttendKernel = {
    name: 'thread',
    body: attendThread,
    unit: `vec4<${dtype}>`,
    vectors: 16,
    extensions: {},
    constants: { VECTORS: 16 },
  };
  return { kernels: [thread], tiles: [{ vectors: 16 }], few: 0 };
}

/**
 * Attention by subgroup matrices; undefined where subgroups, element type, head size or workgroup memory do not suit it.
 * @param layouts default: those that were measured best.
 * @param few tasks of all heads that long stretches are cut into for few vectors.
 */
export function matrixVariant(
  cache: Cached,
  layouts: readonly MatrixLayout[] = matrixLayouts,
  few: number = fewTasks,
): AttendVariant | undefined {
  const { headDim, kvHeads } = cache.layout;
  const besides = fewOf(cache);
  const suitable = layouts.filter((layout) => suits(cache, layout, besides));
  if (cache.dtype !== 'f16' || headDim % 16 !== 0 || suitable.length === 0) return undefined;
  const tasks = (all: number) => Math.max(1, Math.floor(all / kvHeads));
  const ofFew = besides.vectors > 0 ? [{ vectors: besides.vectors, tasks: tasks(few) }] : [];
  return {
    kernels: [...aloneKernels(cache, besides), ...suitable.map((layout) => matrixKernel(layout, besides))],
    tiles: [...ofFew, ...suitable.map(({ vectors, tasks: all }) => ({ vectors, tasks: tasks(all) }))],
    few: besides.vectors,
  };
}

function suits(
  { device: { gpu, info }, layout: { headDim } }: Cached,
  layout: MatrixLayout,
  few: Few,
): boolean {
  const { vectors, shares, keys } = layout;
  return (
    matrixBytes(layout, headDim, few) <= gpu.limits.maxComputeWorkgroupStorageSize &&
    (joints(layout, few) * headDim) / 4 <= matrixRoom(layout, headDim) &&
    (2 * vectors * shares) % info.subgroupMaxSize === 0 &&
    keys % (8 * shares) === 0 // an invocation softens four keys of a round, or more
  );
}

/** Nothing is written to the cache: but where it could be, compilers do not move its loads to the end of a round. */
function matrixKernel({ vectors, shares, keys }: MatrixLayout, few: Few): AttendKernel {
  return {
    name: 'matrix',
    body: [halfUnits, attendTasks, attendMatrix, ...chunksOf(few)].join(''),
    unit: 'vec4u',
    access: 'read_write',
    vectors,
    extensions: subgroupMatrices,
    constants: { VECTORS: vectors, SHARES: shares, KEYS: keys, ...fewConstants(few) },
  };
}

/** Tasks of all heads that long stretches are cut into for teams: as many as an H100 has at once. */
const teamTasks = 256;

/**
 * Attention by FMA from registers; undefined where subgroups, element type or head size do not suit it.
 * @param tasks of all heads that long stretches are cut into.
 */
export function teamVariant(cache: Cached, tasks: number = teamTasks): AttendVariant | undefined {
  const { headDim, kvHeads } = cache.layout;
  const few = fewOf(cache);
  if (cache.dtype !== 'f16' || few.join < 32 || few.vectors === 0 || ![64, 128].includes(headDim))
    return undefined;
  const team: AttendKernel = {
    name: 'team',
    body: [halfUnits, attendTasks, seenSpan, eightColumns, attendTeam, ...chunksOf(few)].join(''),
    unit: 'vec4u',
    vectors: 16,
    extensions: { enable: ['subgroups'] },
    constants: fewConstants(few),
  };
  const own = { vectors: 16, tasks: Math.max(1, Math.floor(tasks / kvHeads)) };
  return {
    kernels: [...aloneKernels(cache, few), team],
    tiles: [{ ...own, vectors: few.vectors }, own],
    few: few.vectors,
  };
}

/**
 * Attention by FMA: for every GPU, element type and head size.
 * @param few whether tasks of few vectors have a way of their own, where the device has one. Default true.
 */
export function tileVariant(cache: Cached, few = true): AttendVariant {
  const { dtype, layout } = cache;
  // At head size 256 a tile of 8 query vectors fills half of the 16 KiB of workgroup memory.
  const vectors = layout.headDim > 128 ? 8 : 16;
  const keys = tileKeys(vectors, layout.headDim, bytesPerElement[dtype]);
  const own = few ? fewOf(cache) : none;
  const tile: AttendKernel = {
    name: 'tile',
    body: [own.vectors > 0 ? quadUnits : '', attendTasks, seenSpan, attendTile, ...chunksOf(own)].join(''),
    unit: `vec4<${dtype}>`,
    vectors,
    extensions: own.vectors > 0 ? { enable: ['subgroups'] } : {},
    constants: { VECTORS: vectors, KEYS: keys, ...fewConstants(own) },
  };
  return { kernels: [...aloneKernels(cache, own), tile], tiles: [{ vectors }], few: own.vectors };
}

/** The way for tasks of few vectors that a kernel has besides its own. */
interface Few {
  /** Vectors, at most; 0: there is no such way. */
  readonly vectors: number;
  /** Invocations that can shuffle with each other: 32 or 16, as every subgroup has. */
  readonly join: number;
}

const none: Few = { vectors: 0, join: 32 };

/** None where subgroups are smaller than a team. Fewer vectors where heads are large, and where more sums are joined. */
function fewOf({ device, layout }: Cached): Few {
  const { subgroupMinSize } = device.info;
  const join = [32, 16].find((size) => subgroupMinSize >= size);
  if (join === undefined || device.tier.reduce !== 'subgroup') return none;
  return { vectors: (layout.headDim > 128 ? 2 : 4) / (32 / join), join };
}

const fewConstants = ({ vectors, join }: Few): Record<string, number> =>
  vectors > 0 ? { FEW: vectors, JOIN: join } : {};

function chunksOf(few: Few): string[] {
  return few.vectors > 0 ? [attendFew, attendByCount] : [attendByMany];
}

/** Kernels for steps of nothing but few vectors: they take less of a processor than those that can do both. */
function aloneKernels({ dtype, layout }: Cached, few: Few): AttendKernel[] {
  const halved = dtype === 'f16' && layout.headDim % 8 === 0;
  const sizes = [few.vectors / 2, few.vectors].filter((vectors) => vectors >= 1);
  return sizes.map((vectors) => ({
    name: 'few',
    body: [halved ? halfUnits : quadUnits, attendTasks, attendFew, onlyFew].join(''),
    unit: halved ? 'vec4u' : `vec4<${dtype}>`,
    vectors,
    extensions: { enable: ['subgroups'] },
    constants: fewConstants({ ...few, vectors }),
  }));
}
