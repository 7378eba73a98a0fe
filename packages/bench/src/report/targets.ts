import { percent, short, times, titled } from './markdown.ts';
import { anchorMs, runName, type Measured } from './measured.ts';
import { productSums } from './products.ts';
import { section, type AnchorRun, type DecodeRow, type GpuRun, type SpeculationRow } from './rows.ts';

/** A figure to reach. */
interface Target {
  readonly what: string;
  readonly goal: number;
  /** Whether less is better. */
  readonly most: boolean;
  readonly print: (value: number) => string;
  /** The figure of a run; undefined where it was not measured. */
  readonly value: (run: GpuRun, anchors: readonly AnchorRun[]) => number | undefined;
}

type Value = Target['value'];
const ms = (value: number): string => `${short(value) ?? ''} ms`;
const tbps = (value: number): string => `${short(value) ?? ''} TB/s`;
const ratio = (value: number): string => times(value) ?? '';
const share = (value: number): string => percent(value) ?? '';

const atMost = (what: string, goal: number, print: Target['print'], value: Value): Target => {
  return { what, goal, most: true, print, value };
};
const atLeast = (what: string, goal: number, print: Target['print'], value: Value): Target => {
  return { what, goal, most: false, print, value };
};

/** The 7B shape's step of n samples. */
function step(run: GpuRun, n: number, context = 8192, weights = 'f16'): DecodeRow | undefined {
  return section(run, 'decode').find(
    (row) => row.shape === '7b' && row.n === n && row.context === context && row.weights === weights,
  );
}

/** How long PyTorch takes for the same step, over how long we take. */
function aheadOfAnchor(n: number): Value {
  return (run, anchors) => {
    const [ours, theirs] = [
      step(run, n)?.ms,
      anchorMs(anchors, { shape: '7b', context: 8192, n, way: 'bifurcated' }),
    ];
    return ours && theirs && theirs / ours;
  };
}

function ofWide(weights: string, n: number): Value {
  return (run) => {
    const [narrow, wide] = [step(run, n, 1024, weights), step(run, n, 1024)];
    return narrow && wide && narrow.ms / wide.ms;
  };
}

function product(rows: number): Value {
  return (run) => productSums(run).find((sum) => sum.weights === 'f16' && sum.rows === rows)?.tbps;
}

function drafted(n: number, acceptance: number, figure: (row: SpeculationRow) => number): Value {
  return (run) => {
    const row = section(run, 'speculation').find(
      (other) =>
        other.n === n && other.acceptance === acceptance && other.context === 1024 && other.length === 'auto',
    );
    return row && figure(row);
  };
}

function layout(preset: string, figure: 'ratio' | 'kvRatio'): Value {
  return (run) => section(run, 'mixattention').find((row) => row.preset === preset)?.[figure];
}

function largest(values: readonly number[]): number | undefined {
  return values.length > 0 ? Math.max(...values) : undefined;
}

/** Where a ratio of two times of the same work is no more than noise. */
const noise = 0.03;

const decoding: readonly Target[] = [
  atMost('n = 1', 6.7, ms, (run) => step(run, 1)?.ms),
  atMost('n = 16', 7.5, ms, (run) => step(run, 16)?.ms),
  atMost('n = 32', 8, ms, (run) => step(run, 32)?.ms),
  atLeast('n = 16, share of the floor', 0.85, share, (run) => step(run, 16)?.share),
  atLeast('n = 1, over plain reading (less 3 % of noise)', 1 - noise, ratio, (run) => step(run, 1)?.ratio),
  atLeast('n = 2, over plain reading (less 3 % of noise)', 1 - noise, ratio, (run) => step(run, 2)?.ratio),
  atLeast('n = 16, over plain reading', 3.5, ratio, (run) => step(run, 16)?.ratio),
  atLeast('n = 32, over plain reading', 6.2, ratio, (run) => step(run, 32)?.ratio),
  atLeast(
    'n = 128 runs: samples',
    128,
    (n) => n.toFixed(0),
    (run) => step(run, 128)?.n,
  ),
  atLeast('n = 16, over PyTorch', 1, ratio, aheadOfAnchor(16)),
  atLeast('n = 32, over PyTorch', 1, ratio, aheadOfAnchor(32)),
].map((target) => ({ ...target, what: `7b, f16, 8192 tokens: ${target.what}` }));

const parts: readonly Target[] = [
  ...[1, 4].map((n) => atMost(`int8 of f16, 1024 tokens, n = ${n}`, 0.6, share, ofWide('int8', n))),
  ...[1, 4].map((n) => atMost(`int4 of f16, 1024 tokens, n = ${n}`, 0.4, share, ofWide('int4', n))),
  atLeast('f16 products, 16 rows', 2.4, tbps, product(16)),
  atLeast('f16 products, 32 rows', 2.2, tbps, product(32)),
  atLeast('f16 products, 64 rows', 1.8, tbps, product(64)),
  atLeast(
    'prefill',
    150,
    (value) => `${short(value) ?? ''} TFLOP/s`,
    (run) => largest(section(run, 'prefill').map(({ tflops }) => tflops)),
  ),
  atMost('JavaScript of a step of 32 layers', 0.7, ms, (run) =>
    largest(section(run, 'host').flatMap(({ layers, jsMs }) => (layers === 32 ? [jsMs] : []))),
  ),
  atMost('sampling of a step, vocabulary 128000, n = 16', 0.03, share, (run) =>
    largest(
      section(run, 'sampling').flatMap((row) => (row.vocab === 128000 && row.n === 16 ? [row.share] : [])),
    ),
  ),
];

const papers: readonly Target[] = [
  atMost(
    '`auto`, 1024 tokens, batch 8, acceptance 0.8: a token',
    2.6,
    ms,
    drafted(8, 0.8, (row) => row.msPerToken),
  ),
  atLeast(
    'the same, over plain decoding',
    2.5,
    ratio,
    drafted(8, 0.8, (row) => row.speedup),
  ),
  atLeast(
    'batch 1, acceptance 0.8, over plain decoding',
    2.3,
    ratio,
    drafted(1, 0.8, (row) => row.speedup),
  ),
  atLeast(
    'batch 1, acceptance 0.9, over plain decoding',
    3,
    ratio,
    drafted(1, 0.9, (row) => row.speedup),
  ),
  atLeast('MA-Offset, tokens per second over standard', 1.95, ratio, layout('MA-Offset', 'ratio')),
  atLeast('MA-Pairs, tokens per second over standard', 1.89, ratio, layout('MA-Pairs', 'ratio')),
  atLeast('MA-Offset, KV smaller', 18.86, ratio, layout('MA-Offset', 'kvRatio')),
  atLeast('MA-Pairs, KV smaller', 10.5, ratio, layout('MA-Pairs', 'kvRatio')),
];

/** What was to be reached, and what each setting reached. Only the H100 has targets. */
export function targetTable({ device, runs, anchors }: Measured): string[] {
  if (!/H100/.test(device)) return [];
  const rows = [...decoding, ...parts, ...papers].map((target) => [
    target.what,
    `${target.most ? '≤' : '≥'} ${target.print(target.goal)}`,
    ...runs.map((run) => verdict(target, target.value(run, anchors))),
  ]);
  return titled('Targets, and what was reached', ['', 'target', ...runs.map(runName)], rows);
}

function verdict({ goal, most, print }: Target, value: number | undefined): string | undefined {
  if (value === undefined) return undefined;
  return `${print(value)}, ${(most ? value <= goal : value >= goal) ? '**yes**' : 'no'}`;
}
