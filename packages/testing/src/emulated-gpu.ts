import { Device, openDevice, supportedTiers, tiers, type Kernel } from '@ensample/tensor';
import { describe, test } from 'vitest';
import {
  claiming,
  claimingSubgroups,
  collectErrors,
  driverName,
  largeGpu,
  testAdapter,
  withDevice,
} from './devices.ts';
import { emulated } from './emulated.ts';

/** Lavapipe takes far longer to optimise these kernels than they run. It reads its environment when it is loaded. */
process.env['GALLIVM_PERF'] ??= 'nopt';

/**
 * Declares a suite for a GPU with subgroups of 32, on tier `f16` or on `matrix`, whose subgroup matrices no driver on a CPU has:
 * they are emulated. Where the driver lacks f16, a skipped test says so. After each test no error may be left, after the suite
 * no tensor.
 */
export async function onEmulated(tier: EmulatedTier, suite: (device: () => Device) => void): Promise<void> {
  const adapter = await testAdapter();
  if (supportedTiers(adapter).includes('f16')) {
    describe(`${tier}, emulated`, () => withDevice(() => emulatedDevice(tier), suite));
  } else {
    test.skip(`${tier}, emulated: ${driverName(adapter.info)} lacks f16`, () => undefined);
  }
}

type EmulatedTier = 'f16' | 'matrix';

/**
 * A device on the test adapter that claims what a large GPU has, so that kernels are those that one is given. Those for subgroup
 * matrices, or for subgroups of 32, are compiled as {@link emulated} ones.
 */
export async function emulatedDevice(tier: EmulatedTier): Promise<Device> {
  const { gpu, info } = await openDevice(await testAdapter(), { tier: 'f16' });
  return collectErrors(new EmulatedDevice(claiming(gpu, largeGpu), tiers[tier], claimingSubgroups(info)));
}

class EmulatedDevice extends Device {
  override pipeline(kernel: Kernel): Promise<GPUComputePipeline> {
    const { code } = kernel;
    return super.pipeline({ ...kernel, code: emulated(code) }).catch((error: unknown) => {
      const smaller = withLessMemory(code);
      if (smaller === code || !/workgroup storage/.test(String(error))) throw error;
      return super.pipeline({ ...kernel, code: emulated(smaller) });
    });
  }
}

/** The same kernel in less workgroup memory: fewer columns a round, but whole tiles, and no room between tiles. */
function withLessMemory(code: string): string {
  const pairs = /alias Tile = array<vec4u, 84>/;
  const least = pairs.test(code) ? 32 : 1;
  return code
    .replace(pairs, 'alias Tile = array<vec4u, 80>')
    .replace(/const DEPTH = (\d+)u;/, (_, depth) => `const DEPTH = ${Math.max(least, Number(depth) / 2)}u;`);
}
