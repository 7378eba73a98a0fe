import type { Device } from '../device.ts';
import { kernel, type Kernel } from '../kernel.ts';
import { decodeWide, decodeWideF16, type WeightFormat } from './matrix.ts';
import { teamBody, teamF16, teamF32 } from './matmul-team.wgsl.ts';
import { storeChunks, type Product, type Variant } from './product.ts';

const width = 128;
/** Workgroups that a product has at least, where teams can be made larger. */
const fewestGroups = 256;

/** Products of up to `rows` rows by teams of invocations, on devices whose subgroups hold one. Default: of all formats. */
export function team(
  rows: number,
  formats: readonly WeightFormat[] = ['f32', 'f16', 'int8', 'int4'],
): Variant {
  const name = `team${rows}`;
  return {
    name,
    takes: (shape, device) =>
      shape.rows <= rows &&
      formats.includes(shape.format) &&
      shape.columns % (hasF16(device) ? 8 : 4) === 0 &&
      teamSize(device, shape.outputs) !== undefined,
    record: (pass, tensors, shape, product) => {
      const size = teamSize(pass.device, shape.outputs) ?? 8;
      const code = teamKernel(pass.device, `matmul_${name}_${product.format}`, product, {
        ROWS: rows,
        TEAM: size,
      });
      pass.run(code, tensors, [Math.ceil((shape.outputs * size) / (4 * width))]);
    },
  };
}

/** Invocations that share the columns of four outputs: more where there are few outputs, as far as subgroups go. */
function teamSize({ tier, info }: Device, outputs: number): number | undefined {
  if (tier.reduce !== 'subgroup') return undefined;
  const sizes = [8, 16, 32].filter((size) => size <= info.subgroupMinSize);
  return sizes.find((size) => (outputs * size) / (4 * width) >= fewestGroups) ?? sizes.at(-1);
}

function hasF16({ tier }: Device): boolean {
  return tier.features.includes('shader-f16');
}

function teamKernel(
  device: Device,
  name: string,
  { format, store, x, y }: Product,
  constants: Readonly<Record<string, number>>,
): Kernel {
  const half = hasF16(device);
  const prelude = { enable: ['subgroups', ...(half ? ['f16'] : [])], aliases: { Y: y }, constants };
  const decode = half ? decodeWideF16[format] : decodeWide[format];
  return kernel(
    name,
    prelude,
    decode,
    x === 'f16' ? teamF16 : teamF32,
    ...storeChunks({ store, y }),
    teamBody,
  );
}
