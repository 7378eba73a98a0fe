import type { Tier } from '../capabilities.ts';
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
