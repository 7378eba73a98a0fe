import type { Device } from '../device.ts';
import type { Kernel } from '../kernel.ts';
import type { WeightStorage } from './matrix.ts';
import { panelOrder, rowOrder } from './matrix.wgsl.ts';
import {
  integers,
  integersF16,
  octetF16,
  octetF32,
  octetInt4,
  octetInt8,
  teamBody,
  teamF16,
  teamF32,
} from './matmul-team.wgsl.ts';
import { productKernel, storePart, type Product, type Variant } from './product.ts';

/** How a product is laid out for teams of invocations. */
export interface TeamLayout {
  /** Invocations of a team: a power of two, no more than every subgroup has. */
  readonly team: number;
  /** Outputs that a team computes: an even number. */
  readonly outputs: number;
  /** Octets of columns that an invocation reads at once of each output. Default: few where an octet is many bytes. */
  readonly ahead?: number;
}

/** From the one that reads the least of x to the one with the most workgroups. */
const layouts: readonly TeamLayout[] = [
  { team: 8, outputs: 4 },
  { team: 16, outputs: 4 },
  { team: 32, outputs: 4 },
  { team: 32, outputs: 2 },
];

const width = 128;
/** Workgroups that a product should have to fill a large GPU. */
const wantedGroups = 320;

const defaultAhead: Readonly<Record<WeightStorage, number>> = { f32: 1, f16: 1, panels: 1, int8: 2, int4: 4 };

const octets: Readonly<Record<WeightStorage, string>> = {
  f32: octetF32,
  f16: octetF16 + rowOrder,
  panels: octetF16 + panelOrder,
  int8: octetInt8,
  int4: octetInt4,
};

/**
 * Products of up to `rows` rows by teams of invocations, on devices whose subgroups hold one.
 * @param layout default: by the number of outputs.
 */
export function teamProduct(rows: number, layout?: TeamLayout): Variant {
  const chosen = (device: Device, outputs: number) => {
    const possible = (layout ? [layout] : layouts).filter((one) => holds(device, one));
    return possible.find((one) => groupsOf(one, outputs) >= wantedGroups) ?? possible.at(-1);
  };
  return {
    name: `team${rows}`,
    takes: (shape, device) =>
      shape.rows <= rows && shape.columns % 8 === 0 && chosen(device, shape.outputs) !== undefined,
    record: (pass, tensors, shape, product) => {
      const one = chosen(pass.device, shape.outputs) ?? layouts[0]!;
      pass.run(teamKernel(pass.device, rows, product, one), tensors, [groupsOf(one, shape.outputs)]);
    },
  };
}

function holds({ tier, info }: Device, { team }: TeamLayout): boolean {
  return tier.reduce === 'subgroup' && team <= info.subgroupMinSize;
}

function groupsOf({ team, outputs: own }: TeamLayout, outputs: number): number {
  return Math.ceil((outputs * team) / (own * width));
}

function teamKernel({ tier }: Device, rows: number, product: Product, layout: TeamLayout): Kernel {
  const { format, x } = product;
  const { team, outputs, ahead = defaultAhead[format] } = layout;
  const half = tier.features.includes('shader-f16');
  const loads = [octets[format], half ? integersF16 : integers];
  return productKernel(
    `matmul_team${rows}_${format}`,
    {
      enable: ['subgroups', ...(half ? ['f16'] : [])],
      constants: { ROWS: rows, TEAM: team, OUTPUTS: outputs, AHEAD: ahead },
    },
    [storePart(product)],
    { bindings: [...loads, x === 'f16' ? teamF16 : teamF32], body: teamBody },
  );
}
