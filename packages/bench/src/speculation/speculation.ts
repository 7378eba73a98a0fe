import { expectedTokens } from '@ensample/spec-decode';
import type { Engine, GenerateOptions, GenerateResult, Session } from '@ensample/runtime';
import { median } from '../results.ts';

/** One way to draft. */
export interface SpeculationCase {
  /** Shown in the table. */
  readonly draft: string;
  readonly options: Pick<GenerateOptions, 'draftLength' | 'acceptance' | 'draftTemperature'>;
  /** Acceptance that a rule imposes; undefined where the models decide. */
  readonly imposed?: number;
}

/** What is run and how often. */
export interface SpeculationRun {
  readonly n: readonly number[];
  readonly maxTokens: number;
  readonly temperature: number;
  /** Timed runs of each case; the median counts. */
  readonly repeats: number;
}

/** One line of the table. */
export interface SpeculationRow {
  readonly draft: string;
  readonly n: number;
  /** Mean draft length of rounds that drafted; 0 for plain decoding. */
  readonly length: number;
  /** Share of compared guesses that were right. */
  readonly acceptance: number;
  /** Tokens a sample gained in a round with a draft. */
  readonly tokensPerRound: number;
  /** (1 − α^(l+1)) / (1 − α) for the measured acceptance, where the length was fixed. */
  readonly theory: number | undefined;
  /** Milliseconds per token of a sample, mean over samples; and of the first and last to finish. */
  readonly msPerToken: number;
  readonly firstMsPerToken: number;
  readonly lastMsPerToken: number;
  /** Generated tokens per second, all samples together. */
  readonly tokensPerSecond: number;
  /** Plain decoding's milliseconds per token over this one's. */
  readonly speedup: number;
  /** Share of the samples whose tokens are those of plain decoding; undefined where the rule changes them. */
  readonly same: number | undefined;
}

/** Seeds of the timed runs: all cases draw the same ones. */
const firstSeed = 11;
/** Runs in which something was compiled are repeated so often, at most. */
const mostTries = 4;

/**
 * Plain decoding and each case in turn, on one prompt that was prefilled before. Every repeat has another seed, so that
 * acceptance is an average over texts; a first run of each case warms up and is not counted, nor is one that had to wait for
 * a kernel.
 */
export async function benchSpeculation(
  engine: Engine,
  prompt: readonly number[],
  cases: readonly SpeculationCase[],
  run: SpeculationRun,
): Promise<SpeculationRow[]> {
  const session = await engine.prefill(prompt);
  try {
    const rows: SpeculationRow[] = [];
    for (const n of run.n) rows.push(...(await benchBatch({ engine, session }, n, cases, run)));
    return rows;
  } finally {
    session.dispose();
  }
}

const plain: SpeculationCase = { draft: 'plain', options: { draftLength: 0 } };

async function benchBatch(
  { engine, session }: { readonly engine: Engine; readonly session: Session },
  n: number,
  cases: readonly SpeculationCase[],
  run: SpeculationRun,
): Promise<SpeculationRow[]> {
  const sides = [plain, ...cases].map((side) => ({ side, results: [] as GenerateResult[] }));
  const { maxTokens, temperature } = run;
  for (let i = -1; i < run.repeats; i++) {
    for (const { side, results } of sides) {
      const seed = firstSeed + 1000 * Math.max(0, i);
      const shared = { n, maxTokens, temperature, topP: 1, seed, ignoreEos: true, rank: 'none' } as const;
      const result = await warmly(engine, () => session.generate({ ...shared, ...side.options }));
      if (i >= 0) results.push(result);
    }
  }
  const [base] = sides;
  return sides.map(({ side, results }) => rowOf(side, n, results, base?.results ?? []));
}

/** Repeats a run until nothing is compiled in it: `auto` and samples that stop meet sizes that no run before had. */
async function warmly<T>({ device }: Engine, run: () => Promise<T>): Promise<T> {
  for (let left = mostTries; ; left--) {
    const { pipelines } = device;
    const result = await run();
    if (device.pipelines === pipelines || left === 1) return result;
  }
}

function rowOf(
  { draft, options, imposed }: SpeculationCase,
  n: number,
  results: readonly GenerateResult[],
  plainResults: readonly GenerateResult[],
): SpeculationRow {
  const ms = (of: readonly GenerateResult[]) => median(of.map(({ stats }) => stats.msPerToken.mean));
  const mean = (pick: (result: GenerateResult) => number) =>
    results.reduce((sum, result) => sum + pick(result), 0) / results.length;
  const acceptance = mean(({ stats }) => stats.speculation?.acceptance ?? 0);
  const row = {
    draft,
    n,
    length: mean(({ stats }) => stats.speculation?.draftLength ?? 0),
    acceptance,
    tokensPerRound: mean(({ stats }) => stats.speculation?.tokensPerRound ?? 1),
    theory:
      typeof options.draftLength === 'number' ? expectedTokens(acceptance, options.draftLength) : undefined,
    msPerToken: ms(results),
    firstMsPerToken: median(results.map(({ stats }) => stats.msPerToken.firstFinished ?? NaN)),
    lastMsPerToken: median(results.map(({ stats }) => stats.msPerToken.lastFinished ?? NaN)),
    tokensPerSecond: median(results.map(({ stats }) => stats.tokensPerSecond)),
    speedup: ms(plainResults) / ms(results),
    same: imposed === undefined ? shareOfSame(results, plainResults) : undefined,
  };
  if (imposed !== undefined) checkImposed(row, imposed, results);
  return row;
}

function shareOfSame(results: readonly GenerateResult[], others: readonly GenerateResult[]): number {
  const pairs = results.flatMap(({ samples }, i) =>
    samples.map((sample, s) => sample.tokens.join() === others[i]?.samples[s]?.tokens.join()),
  );
  return pairs.filter(Boolean).length / pairs.length;
}

/** Imposed acceptance must be what came out, within five standard deviations: else something else was timed. */
function checkImposed(
  { draft, n }: SpeculationRow,
  imposed: number,
  results: readonly GenerateResult[],
): void {
  const accepted = results.reduce((sum, { stats }) => sum + stats.acceptedDraftTokens, 0);
  const compared = results.reduce(
    (sum, { stats }) => sum + stats.acceptedDraftTokens / (stats.speculation?.acceptance || 1),
    0,
  );
  if (Math.abs(accepted - imposed * compared) > 5 * Math.sqrt(imposed * (1 - imposed) * compared)) {
    throw new Error(
      `${draft}, n = ${n}: ${imposed} of the guesses should have been right, and ${accepted / compared} were`,
    );
  }
}
