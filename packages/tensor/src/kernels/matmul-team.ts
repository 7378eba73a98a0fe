import type { Device } from '../device.ts';
import { kernel, type Kernel } from '../kernel.ts';
import type { WeightFormat } from './matrix.ts';
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
import { storeChunks, type Product, type Variant } from './product.ts';

/** How a product is laid out for teams of invocations. */
export interface TeamLayout {
  /** Invocations of a team: a power of two, no more than every subgroup has. */
  readonly team: number;
  /** Outputs that a team computes: an even number. */
  readonly outputs: number;
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

const octets: Readonly<Record<WeightFormat, string>> = {
  f32: octetF32,
  f16: octetF16,
  int8: octetInt8,
  int4: octetInt4,
};

/** What {@link teamProduct} is for. */
export interface TeamUse {
  /** Default: all. */
  readonly formats?: readonly WeightFormat[];
  /** Default: by the number of outputs. */
  readonly layout?: TeamLayout;
}

/** Products of up to `rows` rows by teams of invocations, on devices whose subgroups hold one. */
export function teamProduct(rows: number, { formats, layout }: TeamUse = {}): Variant {
  const name = `team${rows}`;
  const chosen = (device: Device, outputs: number) => {
    const possible = (layout ? [layout] : layouts).filter((one) => holds(device, one));
    return possible.find((one) => groupsOf(one, outputs) >= wantedGroups) ?? possible.at(-1);
  };
  return {
    name,
    takes: (shape, device) =>
      shape.rows <= rows &&
      (formats?.includes(shape.format) ?? true) &&
      shape.columns % 8 === 0 &&
      chosen(device, shape.outputs) !== undefined,
    record: (pass, tensors, shape, product) => {
      const one = chosen(pass.device, shape.outputs) ?? layouts[0]!;
      const constants = { ROWS: rows, TEAM: one.team, OUTPUTS: one.outputs };
      const code = teamKernel(pass.device, `matmul_${name}_${product.format}`, product, constants);
      pass.run(code, tensors, [groupsOf(one, shape.outputs)]);
    },
  };
}

function holds({ tier, info }: Device, { team }: TeamLayout): boolean {
  return tier.reduce === 'subgroup' && team <= info.subgroupMinSize;
}

function groupsOf({ team, outputs: own }: TeamLayout, outputs: number): number {
  return Math.ceil((outputs * team) / (own * width));
}

function teamKernel(
  { tier }: Device,
  name: string,
  { format, store, x, y }: Product,
  constants: Readonly<Record<string, number>>,
): Kernel {
  const half = tier.features.includes('shader-f16');
  const prelude = { enable: ['subgroups', ...(half ? ['f16'] : [])], aliases: { Y: y }, constants };
  const decode = [octets[format], half ? integersF16 : integers];
  return kernel(
    name,
    prelude,
    ...decode,
    x === 'f16' ? teamF16 : teamF32,
    ...storeChunks({ store, y }),
    teamBody,
  );
}
