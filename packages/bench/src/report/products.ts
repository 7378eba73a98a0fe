import { percent, short, titled, type Cell } from './markdown.ts';
import { runName, type Measured } from './measured.ts';
import { ascending, grouped, section, type GpuRun, type MatmulRow } from './rows.ts';

/** All products that were measured at one row count, as if they were one: bytes over time, and the floor's share. */
export interface ProductSum {
  readonly weights: string;
  readonly rows: number;
  readonly tbps: number;
  readonly share: number;
}

/** Products of few rows, which are as slow as their weights are read; where arithmetic counts, a row has `tflops`. */
function skinny(run: GpuRun): MatmulRow[] {
  return section(run, 'matmul').filter(({ tflops }) => tflops === undefined);
}

/** The products of a run by weights and rows, ascending. */
export function productSums(run: GpuRun): ProductSum[] {
  const groups = grouped(skinny(run), ({ weights, rows }) => `${weights} ${rows}`);
  return groups.map(([, rows]) => sum(rows)).sort((a, b) => a.rows - b.rows);
}

function sum(products: readonly MatmulRow[]): ProductSum {
  const total = (value: (row: MatmulRow) => number) => products.reduce((all, row) => all + value(row), 0);
  const us = total((row) => row.us);
  const [{ weights, rows }] = products as [MatmulRow];
  return {
    weights,
    rows,
    tbps: total((row) => row.tbps * row.us) / us,
    share: total((row) => row.floorUs) / us,
  };
}

/** Products: each setting's sum by row count, and each f16 product of the fastest run. */
export function productTables({ runs }: Measured): string[] {
  const columns = runs.flatMap((run) =>
    grouped(productSums(run), ({ weights }) => weights).map(([weights, sums]) => ({ run, weights, sums })),
  );
  const rowCounts = ascending(columns.flatMap(({ sums }) => sums.map(({ rows }) => rows)));
  const cell = (sums: readonly ProductSum[], rows: number): Cell => {
    const found = sums.find((other) => other.rows === rows);
    return found && `${short(found.tbps) ?? ''} (${percent(found.share) ?? ''})`;
  };
  return [
    ...titled(
      'Products of M rows: TB/s of weights over all shapes measured, and share of the floor',
      ['M', ...columns.map(({ run, weights }) => `${weights}, ${runName(run)}`)],
      rowCounts.map((rows) => [rows, ...columns.map(({ sums }) => cell(sums, rows))]),
    ),
    ...shapesTable(runs[0]),
  ];
}

function shapesTable(run: GpuRun): string[] {
  const wide = skinny(run).filter(({ weights }) => weights === 'f16');
  const rowCounts = ascending(wide.map(({ rows }) => rows));
  const lines = grouped(wide, ({ outputs, columns }) => `${outputs} × ${columns}`).map(
    ([shape, products]) => [
      shape,
      ...rowCounts.map((rows) => short(products.find((product) => product.rows === rows)?.tbps)),
    ],
  );
  const header = ['outputs × columns', ...rowCounts.map((rows) => `M = ${rows}`)];
  return titled(`f16 products of M rows by shape, TB/s, ${runName(run)}`, header, lines);
}
