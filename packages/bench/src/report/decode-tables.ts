import { percent, short, times, titled, type Cell } from './markdown.ts';
import { anchorMs, runName, type Measured } from './measured.ts';
import { grouped, section, type DecodeRow, type GpuRun } from './rows.ts';

/** Decode steps: f16 weights in full, with other settings and PyTorch beside the fastest run; then narrow weights. */
export function decodeTables(measured: Measured): string[] {
  const [run] = measured.runs;
  const wide = section(run, 'decode')
    .filter(({ weights }) => weights === 'f16')
    .sort((a, b) => a.context - b.context || a.n - b.n);
  const shapes = grouped(wide, ({ shape }) => shape);
  return [...shapes.flatMap(([shape, rows]) => stepTable(shape, rows, measured)), ...narrowTable(run, wide)];
}

function stepTable(shape: string, rows: readonly DecodeRow[], { runs, anchors }: Measured): string[] {
  const [run, ...others] = runs;
  const columns: [name: string, cell: (row: DecodeRow) => Cell][] = [
    ['tokens', ({ context }) => context],
    ['n', ({ n }) => n],
    [`prompt read once, ${runName(run)}`, ({ ms }) => `**${short(ms) ?? ''}**`],
    ['floor', ({ floorMs }) => short(floorMs)],
    ['share', ({ share }) => percent(share)],
    ...others.map((other): [string, (row: DecodeRow) => Cell] => [
      runName(other),
      (row) => short(sameStep(other, row)?.ms),
    ]),
    ['prompt read per sample', ({ plainMs }) => short(plainMs)],
    ['ratio', ({ ratio }) => times(ratio)],
    ['PyTorch, once', (row) => short(anchorMs(anchors, { ...row, way: 'bifurcated' }))],
    ['PyTorch, per sample', (row) => short(anchorMs(anchors, { ...row, way: 'sdpa' }))],
  ];
  const lines = rows.map((row) => columns.map(([, cell]) => cell(row)));
  const known = columns.map((_, i) => lines.some((line) => line[i] !== undefined));
  const only = <T>(cells: readonly T[]) => cells.filter((_, i) => known[i]);
  return titled(
    `A decode step, ${shape}, f16 weights, ms`,
    only(columns.map(([name]) => name)),
    lines.map(only),
  );
}

/** The row of the same step in another run, or with other weights. */
function sameStep(run: GpuRun, like: DecodeRow): DecodeRow | undefined {
  return section(run, 'decode').find(
    ({ shape, weights, context, n }) =>
      shape === like.shape && weights === like.weights && context === like.context && n === like.n,
  );
}

function narrowTable(run: GpuRun, wide: readonly DecodeRow[]): string[] {
  const lines = wide.flatMap((row): Cell[][] => {
    const narrow = (['int8', 'int4'] as const).map((weights) => sameStep(run, { ...row, weights }));
    if (narrow.every((other) => other === undefined)) return [];
    const cells = narrow.flatMap((other) => [
      short(other?.ms),
      percent(other?.share),
      percent(other && other.ms / row.ms),
      percent(other && other.floorMs / row.floorMs),
    ]);
    return [[row.shape, row.context, row.n, short(row.ms), ...cells]];
  });
  const columns = ['int8', 'int4'].flatMap((weights) => [
    `${weights}, ms`,
    'share of the floor',
    'of f16',
    'floors',
  ]);
  const title = `A decode step with int8 and int4 weights, its share of f16's and the floor's share of f16's, ${runName(run)}`;
  return titled(title, ['shape', 'tokens', 'n', 'f16, ms', ...columns], lines);
}
