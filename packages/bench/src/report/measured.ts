import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AnchorRow, AnchorRun, GpuRun } from './rows.ts';

/** All that was measured on one device. */
export interface Measured {
  readonly device: string;
  /** The fastest setting first: tables of one run show this one. */
  readonly runs: readonly [GpuRun, ...GpuRun[]];
  readonly anchors: readonly AnchorRun[];
}

/** The files of `bench gpu` and of the anchor in a folder, by device. */
export async function readMeasured(folder: string): Promise<Measured[]> {
  const names = (await readdir(folder)).filter((name) => /^(gpu|anchor)-.*\.json$/.test(name)).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), 'utf8')));
  return byDevice(texts.map((text) => JSON.parse(text) as GpuRun | AnchorRun));
}

/** Groups files by device; a device with nothing but an anchor is left out. */
export function byDevice(files: readonly (GpuRun | AnchorRun)[]): Measured[] {
  const devices = [...new Set(files.map(({ device }) => device))].sort();
  return devices.flatMap((device): Measured[] => {
    const own = files.filter((file) => file.device === device);
    const [first, ...others] = own.filter((file) => file.benchmark === 'gpu').sort(fastestFirst);
    const anchors = own.filter((file) => file.benchmark === 'anchor');
    return first ? [{ device, runs: [first, ...others], anchors }] : [];
  });
}

const tiers = ['matrix', 'f16', 'subgroups', 'plain', 'software'];

function fastestFirst(a: GpuRun, b: GpuRun): number {
  return tiers.indexOf(a.tier) - tiers.indexOf(b.tier) || Number(a.robustness) - Number(b.robustness);
}

/** How tables name a run. */
export function runName({ tier, robustness }: GpuRun): string {
  return `\`${tier}\`${robustness ? '' : ', unchecked'}`;
}

/** PyTorch's step: the fastest where it was measured plainly and compiled. */
export function anchorMs(
  anchors: readonly AnchorRun[],
  like: Pick<AnchorRow, 'shape' | 'context' | 'n' | 'way'>,
): number | undefined {
  const times = anchors
    .flatMap(({ rows }) => rows)
    .filter(
      ({ shape, context, n, way }) =>
        shape === like.shape && context === like.context && n === like.n && way === like.way,
    )
    .map(({ ms }) => ms);
  return times.length > 0 ? Math.min(...times) : undefined;
}
