import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { reportFiles } from '../src/report/command.ts';
import { report, withReport } from '../src/report/document.ts';
import { byDevice } from '../src/report/measured.ts';
import type { AnchorRun, DecodeRow, GpuRow, GpuRun, MatmulRow } from '../src/report/rows.ts';

const card = { device: 'NVIDIA H100 & co', date: '2026-11-22' };

function step(n: number, ms: number, more: Partial<DecodeRow> = {}): DecodeRow {
  const what = { shape: '7b', weights: 'f16', context: 8192, n, own: 64 } as const;
  return { section: 'decode', ...what, ms, floorMs: 5, share: 5 / ms, ...more };
}

function product(rows: number, us: number, tbps: number): MatmulRow {
  const what = { weights: 'f16', rows, outputs: 4096, columns: 4096 } as const;
  return { section: 'matmul', ...what, us, tbps, error: 1e-4, floorUs: 10, share: 10 / us };
}

const draft = { section: 'speculation', shape: '7b', context: 1024, n: 8, acceptance: 0.8 } as const;
const rows: GpuRow[] = [
  step(1, 6.25, { plainMs: 6.5, ratio: 1.04 }),
  step(16, 8, { plainMs: 32, ratio: 4 }),
  step(1, 4, { context: 1024 }),
  step(1, 2, { context: 1024, weights: 'int8', floorMs: 1.9, share: 0.95 }),
  product(16, 10, 3),
  product(16, 30, 1),
  { ...product(2048, 900, 0.1), tflops: 170 },
  {
    ...draft,
    length: 'auto',
    msPerToken: 2.5,
    plainMsPerToken: 6,
    speedup: 2.4,
    tokensPerRound: 3,
    utilisation: 0.02,
  },
  {
    ...draft,
    length: 'bass',
    msPerToken: 3,
    plainMsPerToken: 6,
    speedup: 2,
    tokensPerRound: 4,
    utilisation: 0.03,
  },
];
const fast: GpuRun = { ...card, benchmark: 'gpu', driver: '580', tier: 'matrix', robustness: false, rows };
const checked: GpuRun = { ...fast, robustness: true, skipped: ['decode n = 1: why'], rows: [step(16, 11)] };
const anchor: AnchorRun = {
  ...card,
  ...{ benchmark: 'anchor', driver: '580', torch: '2.11', copyTbps: 3 },
  rows: (
    [
      ['bifurcated', 9],
      ['sdpa', 28],
    ] as const
  ).map(([way, ms]) => {
    return { section: 'anchor', shape: '7b', context: 8192, n: 16, way, ms };
  }),
};
const compiled: AnchorRun = { ...anchor, rows: [{ ...anchor.rows[0]!, ms: 8.8 }] };
const made = report(byDevice([checked, anchor, fast, compiled]));

/** The cells of the line that starts with these. */
function line(...cells: readonly string[]): string[] {
  const start = `| ${cells.join(' | ')} |`;
  const found = made.markdown.split('\n').find((text) => text.startsWith(start)) ?? `no line ${start}`;
  return found
    .split('|')
    .map((cell) => cell.trim())
    .slice(1 + cells.length, -1);
}

describe('tables', () => {
  it('name device, driver, date and versions', () => {
    expect(made.markdown).toContain('### NVIDIA H100 & co');
    expect(made.markdown).toContain('- `matrix`, unchecked: driver 580, 2026-11-22');
    expect(made.markdown).toContain(
      'PyTorch 2.11, CUDA graph: driver 580, 2026-11-22; a device copy 3.00 TB/s',
    );
  });

  it('have the fastest setting first, PyTorch (its faster run) beside, and say what was not measured', () => {
    expect(line('8192', '16')).toEqual(['**8.00**', '5.00', '63 %', '11.0', '32.0', '4.00×', '8.80', '28.0']);
    expect(line('8192', '1')).toEqual(['**6.25**', '5.00', '80 %', '–', '6.50', '1.04×', '–', '–']);
  });

  it('say which targets were reached', () => {
    expect(line('7b, f16, 8192 tokens: n = 1')).toEqual(['≤ 6.70 ms', '6.25 ms, **yes**', '–']);
    expect(line('7b, f16, 8192 tokens: n = 16')).toEqual(['≤ 7.50 ms', '8.00 ms, no', '11.0 ms, no']);
    expect(line('7b, f16, 8192 tokens: n = 16, over PyTorch')).toEqual([
      '≥ 1.00×',
      '1.10×, **yes**',
      '0.80×, no',
    ]);
    expect(line('int8 of f16, 1024 tokens, n = 1')).toEqual(['≤ 60 %', '50 %, **yes**', '–']);
    expect(line('prefill')).toEqual(['≥ 150 TFLOP/s', '–', '–']);
  });

  it('sum products: bytes over time', () => {
    expect(line('16')).toEqual(['1.50 (50 %)']);
    expect(made.markdown).not.toContain('\n| 2048 ');
    expect(line('f16', '`matrix`, unchecked', '2048')).toEqual(['4096 × 4096', '170']);
    expect(line('f16 products, 16 rows')).toEqual(['≥ 2.40 TB/s', '1.50 TB/s, no', '–']);
  });

  it('compare narrow weights and draft lengths', () => {
    expect(line('7b', '1024', '1')).toEqual(['4.00', '2.00', '95 %', '50 %', '38 %', '–', '–', '–', '–']);
    expect(line('0.8', '8')).toEqual(['6.00', '2.50 (2.40×, 3.0, 2.0 %)', '3.00 (2.00×, 4.0, 3.0 %)']);
  });

  it('are left out for a device that has only the anchor', () => {
    expect(report(byDevice([anchor]))).toEqual({ markdown: 'No run is stored yet.', plots: [] });
  });
});

/** Names of elements still open, or what is no XML. */
function faults(xml: string): string[] {
  const open: string[] = [];
  const tag = /<(\/?)([\w:-]+)(?:\s+[\w:-]+="(?:[^"<&]|&\w+;)*")*\s*(\/?)>/g;
  const text = xml.replace(tag, (_, closing: string, name: string, empty: string) => {
    if (closing && open.pop() !== name) open.push(`</${name}>`);
    if (!closing && !empty) open.push(name);
    return '';
  });
  return [...open, ...(/<|&(?!\w+;)/.exec(text) ?? [])];
}

describe('plots', () => {
  it('are well-formed SVG with a line for everything that was measured', () => {
    expect(made.plots.map(({ name }) => name)).toEqual([
      'decode-nvidia-h100-co.svg',
      'products-nvidia-h100-co.svg',
    ]);
    for (const { svg, name } of made.plots) {
      expect(faults(svg), name).toEqual([]);
      expect(svg).toMatch(/^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/);
      expect(svg).not.toMatch(/NaN|undefined|Infinity/);
      expect(made.markdown).toContain(`(plots/${name})`);
    }
    const names = [...made.plots[0]!.svg.matchAll(/>(Ensample|PyTorch|bandwidth)[^<]*</g)].map(([text]) =>
      text.slice(1, -1),
    );
    expect(names).toEqual([
      'Ensample, per sample',
      'PyTorch, per sample',
      'PyTorch, prompt read once',
      'Ensample, prompt read once',
      'bandwidth floor',
    ]);
  });

  it('keep names apart whose lines end at one height', () => {
    const [svg] = report(byDevice([{ ...fast, rows: [step(1, 5), step(2, 5.01, { plainMs: 5.02 })] }])).plots;
    const heights = [...svg!.svg.matchAll(/translate\([\d.]+,([\d.]+)\)"[^>]*>(?:Ensample|bandwidth)/g)].map(
      ([, y]) => Number(y),
    );
    expect(heights).toHaveLength(3);
    heights.sort((a, b) => a - b);
    for (const [i, y] of heights.entries()) if (i > 0) expect(y - heights[i - 1]!).toBeGreaterThan(14);
  });
});

describe('document', () => {
  it('is replaced between its markers alone', () => {
    const document = 'before <!-- gpu:begin --> old <!-- gpu:end --> after';
    const once = withReport(document, made);
    expect(once).toBe(`before <!-- gpu:begin -->\n\n${made.markdown}\n\n<!-- gpu:end --> after`);
    expect(withReport(once, made)).toBe(once);
    expect(() => withReport('no markers', made)).toThrow('gpu:begin');
  });

  it('says what the stored results say (else run `pnpm bench report`)', async () => {
    const path = (name: string) => fileURLToPath(new URL(`../../../${name}`, import.meta.url));
    for (const [file, text] of await reportFiles(path('packages/bench/results'), path('docs/performance.md')))
      expect(await readFile(file, 'utf8'), file).toBe(text);
  });
});
