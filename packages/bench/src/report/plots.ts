import { drawing, type Line } from './drawing.ts';
import { anchorMs, type Measured } from './measured.ts';
import { productSums } from './products.ts';
import { ascending, section, type GpuRun } from './rows.ts';

/** A plot as a file. */
export interface PlotFile {
  readonly name: string;
  /** For those who do not see it. */
  readonly alt: string;
  readonly svg: string;
}

/** The plots of a device; one that has no figures is left out. */
export function plots(measured: Measured): PlotFile[] {
  const slug = measured.device.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  return [
    { name: `decode-${slug}.svg`, alt: 'A decode step by number of samples', svg: decodePlot(measured) },
    { name: `products-${slug}.svg`, alt: 'Products by number of rows', svg: productPlot(measured) },
  ].flatMap(({ svg, ...plot }) => (svg ? [{ ...plot, svg }] : []));
}

/** Which decode steps are drawn. */
const drawn = { shape: '7b', weights: 'f16', context: 8192 } as const;

function decodePlot({ device, runs: [run], anchors }: Measured): string | undefined {
  const rows = section(run, 'decode').filter(
    ({ shape, weights, context }) =>
      shape === drawn.shape && weights === drawn.weights && context === drawn.context,
  );
  const ours = (pick: (row: (typeof rows)[number]) => number | undefined) =>
    rows.map((row) => [row.n, pick(row)] as const).sort(([a], [b]) => a - b);
  const counts = ascending(anchors.flatMap((anchor) => anchor.rows.map(({ n }) => n)));
  const theirs = (way: 'bifurcated' | 'sdpa') =>
    counts.map((n) => [n, anchorMs(anchors, { ...drawn, n, way })] as const);
  const lines: Line[] = [
    { name: 'Ensample, per sample', colour: 'ours', dash: '6 4', points: ours(({ plainMs }) => plainMs) },
    { name: 'PyTorch, per sample', colour: 'theirs', dash: '6 4', points: theirs('sdpa') },
    { name: 'PyTorch, prompt read once', colour: 'theirs', points: theirs('bifurcated') },
    { name: 'Ensample, prompt read once', colour: 'ours', points: ours(({ ms }) => ms) },
    { name: 'bandwidth floor', colour: 'quiet', dash: '1 4', points: ours(({ floorMs }) => floorMs) },
  ];
  return drawing(lines, {
    title: `Milliseconds of a decode step of n samples, ${drawn.context} tokens of prompt`,
    subtitle: `7B multi-head shape, f16 weights and KV. ${where(device, run)}`,
    x: { label: 'samples', type: 'log', base: 2 },
    y: logarithmic(lines.flatMap(({ points }) => points.flatMap(([, ms]) => ms ?? []))),
  });
}

/** An axis from a round value below the least to one above the largest, ticks at 1, 2, 3, 5, 10, … */
function logarithmic(values: readonly number[]): {
  type: 'log';
  domain: number[];
  ticks: number[];
  tickFormat: string;
} {
  const round = [-2, -1, 0, 1, 2, 3].flatMap((power) => [1, 2, 3, 5].map((digit) => digit * 10 ** power));
  const low = round.findLast((tick) => tick <= Math.min(...values)) ?? 0.01;
  const high = round.find((tick) => tick >= Math.max(...values)) ?? 1e4;
  const ticks = round.filter((tick) => tick >= low && tick <= high);
  return { type: 'log', domain: [low, high], ticks, tickFormat: '~g' };
}

const formats = { f16: 'ours', int8: 'theirs', int4: 'third' } as const;

function productPlot({ device, runs: [run] }: Measured): string | undefined {
  const sums = productSums(run);
  const lines = (['f16', 'int8', 'int4'] as const).map((weights): Line => {
    const points = sums
      .filter((sum) => sum.weights === weights)
      .map((sum) => [sum.rows, 100 * sum.share] as const);
    return { name: `${weights} weights`, colour: formats[weights], points };
  });
  return drawing(lines, {
    title: 'Products: share of the bandwidth floor by rows',
    subtitle: `All shapes of a layer and the head. ${where(device, run)}`,
    x: { label: 'rows', type: 'log', base: 2 },
    y: { domain: [0, 100], ticks: [0, 20, 40, 60, 80, 100], tickFormat: (share: number) => `${share} %` },
  });
}

function where(device: string, { tier, robustness, date }: GpuRun): string {
  return `${device}, tier ${tier}${robustness ? '' : ', unchecked'}, ${date}`;
}
