import { bytes, percent, short, times, titled } from './markdown.ts';
import { runName, type Measured } from './measured.ts';
import { ascending, grouped, section, type GpuRun, type SpeculationRow } from './rows.ts';

/** Prefill, host, sampling, speculation and MixAttention of every run that measured them. */
export function otherTables({ runs }: Measured): string[] {
  return [
    ...prefillTable(runs),
    ...tallTable(runs),
    ...hostTable(runs),
    ...samplingTable(runs),
    ...runs.flatMap(speculationTable),
    ...runs.flatMap(mixAttentionTable),
  ];
}

function prefillTable(runs: readonly GpuRun[]): string[] {
  const rows = runs.flatMap((run) => section(run, 'prefill').map((row) => ({ ...row, run: runName(run) })));
  return titled(
    'Prefill',
    ['shape', 'weights', 'setting', 'tokens', 'ms', 'TFLOP/s', 'with attention'],
    rows.map(({ shape, weights, run, tokens, ms, tflops, tflopsWithAttention }) => [
      shape,
      weights,
      run,
      tokens,
      short(ms),
      short(tflops),
      short(tflopsWithAttention),
    ]),
  );
}

function tallTable(runs: readonly GpuRun[]): string[] {
  const rows = runs.flatMap((run) => section(run, 'matmul').map((row) => ({ ...row, run: runName(run) })));
  return titled(
    'Products of a prefill step',
    ['weights', 'setting', 'M', 'outputs × columns', 'TFLOP/s'],
    rows
      .filter(({ tflops }) => tflops !== undefined)
      .map(({ weights, run, rows, outputs, columns, tflops }) => [
        ...[weights, run, rows, `${outputs} × ${columns}`],
        short(tflops),
      ]),
  );
}

function hostTable(runs: readonly GpuRun[]): string[] {
  const rows = runs.flatMap((run) => section(run, 'host').map((row) => ({ ...row, run: runName(run) })));
  return titled(
    'The host in a warm decode step',
    [
      'shape',
      'layers',
      'setting',
      'tokens',
      'n',
      'dispatches',
      'JavaScript, ms',
      'of it in submit',
      'GPU, ms',
      'GPU idle between steps, ms',
      'engine, ms a token',
    ],
    rows.map(({ shape, layers, run, context, n, dispatches, jsMs, submitMs, gpuMs, idleMs, engineMs }) => [
      ...[shape, layers, run, context, n, dispatches],
      ...[jsMs, submitMs, gpuMs, idleMs, engineMs].map(short),
    ]),
  );
}

function samplingTable(runs: readonly GpuRun[]): string[] {
  const rows = runs.flatMap((run) => section(run, 'sampling').map((row) => ({ ...row, run: runName(run) })));
  return titled(
    'Sampling',
    ['vocabulary', 'n', 'setting', 'µs', 'step, ms', 'share of the step'],
    rows.map(({ vocab, n, run, us, stepMs, share }) => [
      vocab,
      n,
      run,
      short(us),
      short(stepMs),
      percent(share),
    ]),
  );
}

function speculationTable(run: GpuRun): string[] {
  const rows = section(run, 'speculation');
  const groups = grouped(rows, ({ shape, context }) => `${shape}, ${context} tokens`);
  return groups.flatMap(([what, cases]) => {
    const lengths = [...new Set(cases.map(({ length }) => length))];
    const lines = grouped(cases, ({ acceptance, n }) => `${acceptance} ${n}`).map(([, same]) => {
      const [{ acceptance, n, plainMsPerToken }] = same as [SpeculationRow];
      const cells = lengths.map((length) => speculationCell(same.find((row) => row.length === length)));
      return [acceptance, n, short(plainMsPerToken), ...cells];
    });
    const title = `Speculation, ${what}, ${runName(run)}: ms a token of a sample, over plain, tokens a round, utilisation`;
    return titled(title, ['acceptance', 'n', 'plain', ...lengths.map((length) => `\`${length}\``)], lines);
  });
}

function speculationCell(row: SpeculationRow | undefined): string | undefined {
  if (!row) return undefined;
  const figures = [times(row.speedup), row.tokensPerRound.toFixed(1), percent(row.utilisation)];
  return `${short(row.msPerToken) ?? ''} (${figures.join(', ')})`;
}

function mixAttentionTable(run: GpuRun): string[] {
  const rows = section(run, 'mixattention');
  const counts = ascending(rows.map(({ sequences }) => sequences));
  return titled(
    `MixAttention, 24 layers, ${runName(run)}: as many sequences as fit (${counts[0]} to ${counts.at(-1)})`,
    [
      'layout',
      'sequences',
      'KV of one',
      'smaller',
      'decode step, ms',
      'prefill of one, ms',
      'tokens/s',
      'over standard',
    ],
    rows.map((row) => [
      row.preset,
      row.sequences,
      bytes(row.kvBytesPerSequence),
      times(row.kvRatio),
      short(row.decodeMs),
      short(row.prefillMs),
      row.tokensPerSecond.toFixed(0),
      times(row.ratio),
    ]),
  );
}
