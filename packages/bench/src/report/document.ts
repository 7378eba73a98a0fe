import { decodeTables } from './decode-tables.ts';
import { short } from './markdown.ts';
import { runName, type Measured } from './measured.ts';
import { otherTables } from './other-tables.ts';
import { plots, type PlotFile } from './plots.ts';
import { productTables } from './products.ts';
import type { AnchorRun, GpuRun } from './rows.ts';
import { targetTable } from './targets.ts';

const begin = '<!-- gpu:begin -->';
const end = '<!-- gpu:end -->';

/** What the files say: Markdown for the document, and the plots that it shows. */
export interface Report {
  readonly markdown: string;
  readonly plots: readonly PlotFile[];
}

/** The report of all devices. */
export function report(devices: readonly Measured[]): Report {
  const parts = devices.map(deviceReport);
  return {
    markdown: parts.map(({ markdown }) => markdown).join('\n\n') || 'No run is stored yet.',
    plots: parts.flatMap((part) => part.plots),
  };
}

function deviceReport(measured: Measured): Report {
  const drawn = plots(measured);
  const blocks = [
    `### ${measured.device}`,
    [...measured.runs.map(runLine), ...measured.anchors.map(anchorLine)].join('\n'),
    ...targetTable(measured),
    ...drawn.map(({ name, alt }) => `![${alt}](plots/${name})`),
    ...decodeTables(measured),
    ...productTables(measured),
    ...otherTables(measured),
    ...measured.runs.flatMap(skippedLines),
  ];
  return { markdown: blocks.join('\n\n'), plots: drawn };
}

function runLine(run: GpuRun): string {
  return `- ${runName(run)}: driver ${run.driver}, ${run.date}`;
}

function skippedLines(run: GpuRun): string[] {
  const { skipped = [] } = run;
  if (skipped.length === 0) return [];
  return [[`Not measured on ${runName(run)}:`, '', ...skipped.map((reason) => `- ${reason}`)].join('\n')];
}

function anchorLine({ torch, driver, date, copyTbps, gemmTflops }: AnchorRun): string {
  const card = [
    ...(copyTbps ? [`a device copy ${short(copyTbps) ?? ''} TB/s`] : []),
    ...(gemmTflops ? [`an f16 product of 4096³ ${short(gemmTflops) ?? ''} TFLOP/s`] : []),
  ];
  return `- ${[`PyTorch ${torch}, CUDA graph: driver ${driver}, ${date}`, ...card].join('; ')}`;
}

/** The document with the report between its markers. */
export function withReport(document: string, { markdown }: Report): string {
  const [from, to] = [document.indexOf(begin), document.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the document has no ${begin} … ${end}`);
  return `${document.slice(0, from + begin.length)}\n\n${markdown}\n\n${document.slice(to)}`;
}
