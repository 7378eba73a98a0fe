import type { Tier } from '../capabilities.ts';
import type { Device } from '../device.ts';
import { kernel, type Kernel, type Prelude } from '../kernel.ts';
import { entrySubgroup, entryTree, reduceSubgroup, reduceTree } from './reduce.wgsl.ts';

/**
 * A kernel whose body is `fn run(group: vec3u, lane: u32)` and may call `reduce_add4` and
 * `reduce_max4`; the tier decides how these reduce and how wide a workgroup is (REDUCE_WIDTH).
 */
export function reducingKernel(
  tier: Tier,
  name: string,
  prelude: Prelude,
  ...chunks: readonly string[]
): Kernel {
  const subgroup = tier.reduce === 'subgroup';
  const extended: Prelude = {
    ...prelude,
    enable: [...(prelude.enable ?? []), ...(subgroup ? ['subgroups'] : [])],
    constants: { REDUCE_WIDTH: tier.reduceWidth, ...prelude.constants },
  };
  const [reduce, entry] = subgroup ? [reduceSubgroup, entrySubgroup] : [reduceTree, entryTree];
  return kernel(name, extended, reduce, ...chunks, entry);
}

/** Invocations for a row of so many values, a REDUCE_WIDTH: on a GPU as many as have eight each, up to 1024. */
export function rowLanes({ tier, gpu }: Device, values: number): number {
  if (tier.reduceWidth < 128) return tier.reduceWidth;
  const wanted = Math.max(tier.reduceWidth, 2 ** Math.ceil(Math.log2(values / 8)));
  const most = tier.reduce === 'subgroup' ? 1024 : 256; // without subgroups, workgroup memory holds a vector of each
  return Math.min(wanted, most, gpu.limits.maxComputeInvocationsPerWorkgroup);
}
