import { UnsupportedFeatureError } from './errors.ts';
import type { Operand } from './kernels/operand.ts';

/** Name of a capability tier, from the least to the most a device may offer. */
export type TierName = 'software' | 'plain' | 'subgroups' | 'f16' | 'matrix';

/** A capability tier: which features it needs, and which kernel variants are chosen with it. */
export interface Tier {
  readonly name: TierName;
  /** Device features that this tier's kernels need. */
  readonly features: readonly string[];
  /** How a workgroup adds up values: through workgroup memory, or with subgroup operations. */
  readonly reduce: 'tree' | 'subgroup';
  /** Invocations in a kernel that reduces along a row. */
  readonly reduceWidth: number;
  /** One invocation per register tile, workgroup-memory tiles, or subgroup matrices. */
  readonly matmul: 'thread' | 'tile' | 'matrix';
  /** One invocation per query vector, a workgroup per tile of them, or subgroup matrices. */
  readonly attention: 'thread' | 'tile' | 'matrix';
  /**
   * Who turns queries and keys and stores keys and values: the product that computes them, which is a dispatch less, or a kernel
   * of its own, which is less to compile.
   */
  readonly rotary: 'kernel' | 'product';
  /** Default element type of the KV cache. */
  readonly kv: 'f32' | 'f16';
  /** Element type of what products read: results of norms, of attention, and of the gated product. */
  readonly operands: Operand;
}

const plain: Tier = {
  name: 'plain',
  features: [],
  reduce: 'tree',
  reduceWidth: 128,
  matmul: 'tile',
  attention: 'tile',
  rotary: 'product',
  kv: 'f32',
  operands: 'f32',
};

/**
 * Software rasterisers get a row of their own: they report subgroups too, but a CPU wants independent invocations with
 * register tiles and no barriers (docs/decisions).
 */
const software: Tier = {
  ...plain,
  name: 'software',
  reduceWidth: 8,
  matmul: 'thread',
  attention: 'thread',
  rotary: 'kernel',
};
const subgroups: Tier = { ...plain, name: 'subgroups', features: ['subgroups'], reduce: 'subgroup' };
const f16: Tier = {
  ...subgroups,
  name: 'f16',
  features: ['subgroups', 'shader-f16'],
  kv: 'f16',
  operands: 'f16',
};
const matrix: Tier = {
  ...f16,
  name: 'matrix',
  features: [...f16.features, 'chromium-experimental-subgroup-matrix'],
  matmul: 'matrix',
  attention: 'matrix',
};

/** The tiers as data: each adds to the one before what a device can do more. */
export const tiers: Readonly<Record<TierName, Tier>> = { software, plain, subgroups, f16, matrix };

/** True for CPU implementations of WebGPU (SwiftShader, lavapipe, WARP). */
export function isSoftware(info: GPUAdapterInfo): boolean {
  const text = `${info.vendor} ${info.architecture} ${info.device} ${info.description}`.toLowerCase();
  return info.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe|microsoft basic render/.test(text);
}

interface SubgroupMatrixConfig {
  componentType: string;
  resultComponentType: string;
  M: number;
  N: number;
  K: number;
}

/** M × N × K of the products that the matrix kernels are written for: f16 in, f32 out. */
const matrixSizes = ['16×16×16', '16×8×8'];

/** Whether subgroups have 32 invocations and those products. */
function hasMatrixTiles(info: GPUAdapterInfo): boolean {
  const { subgroupMatrixConfigs: configs = [] } = info as {
    subgroupMatrixConfigs?: readonly SubgroupMatrixConfig[];
  };
  const sizes = configs
    .filter((one) => one.componentType === 'f16' && one.resultComponentType === 'f32')
    .map(({ M, N, K }) => `${M}×${N}×${K}`);
  const whole = info.subgroupMinSize === 32 && info.subgroupMaxSize === 32;
  return whole && matrixSizes.every((size) => sizes.includes(size));
}

function needsOf(name: TierName): string {
  const features = tiers[name].features.join(', ');
  return name === 'matrix'
    ? `${features} with products of ${matrixSizes.join(' and ')} in f16 and subgroups of 32`
    : features;
}

/** Names of all tiers an adapter can run, in the table's order. */
export function supportedTiers(adapter: GPUAdapter): TierName[] {
  return Object.values(tiers)
    .filter((t) => t.features.every((feature) => adapter.features.has(feature as GPUFeatureName)))
    .filter((t) => t.name !== 'matrix' || hasMatrixTiles(adapter.info))
    .map((t) => t.name);
}

/**
 * The tier for an adapter: the best it has, `software` on a CPU implementation, or the one asked for.
 * @throws UnsupportedFeatureError when the adapter lacks a feature of the tier asked for.
 */
export function chooseTier(adapter: GPUAdapter, wanted?: TierName): Tier {
  const supported = supportedTiers(adapter);
  if (wanted !== undefined) {
    if (!Object.hasOwn(tiers, wanted)) {
      throw new UnsupportedFeatureError(
        `tier "${wanted}" does not exist: use ${Object.keys(tiers).join(', ')}`,
      );
    }
    if (!supported.includes(wanted)) {
      throw new UnsupportedFeatureError(
        `tier "${wanted}" needs ${needsOf(wanted)}, which ${adapter.info.description || 'this adapter'} ` +
          `does not offer: use ${supported.join(', ')}`,
      );
    }
    return tiers[wanted];
  }
  return isSoftware(adapter.info) ? tiers.software : tiers[supported.at(-1) ?? 'plain'];
}
