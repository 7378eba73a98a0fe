import type { Decoder } from '@ensample/mixattn-model';
import type { Engine, GenerateOptions } from '@ensample/runtime';
import { imposedAcceptance } from '../speculation/imposed.ts';
import { randomSource } from '../speculation/random-source.ts';
import { benchSpeculation, type SpeculationCase, type SpeculationRow } from '../speculation/speculation.ts';
import { layerParameters, type DrawnFormat } from '../synthetic.ts';
import { attempt, type Bench, type GpuOptions, type Job } from './bench.ts';
import { engineOf } from './prefill.ts';
import type { Row } from './report.ts';
import { checkTwin } from './twin.ts';

/** Sample counts, the most interesting first. */
const batches = [8, 1, 16, 4];
const acceptances = [0.8, 0.9, 0.6];
const lengths: readonly NonNullable<GenerateOptions['draftLength']>[] = ['auto', 'bass'];
const longestPrompt = 1024;
/** Tokens of a sample: `auto` needs some to find its length. */
const maxTokens = 256;

/** Shape and layers of the model that drafts for a shape: BASS's is wide and shallow. */
const drafts: Readonly<Record<string, readonly [shape: string, layers: number]>> = { tiny: ['tiny', 1] };
const bassDraft = ['300m', 8] as const;

/** Dense f16 TFLOP/s of a device, by a part of its name: what utilisation is a share of. */
const peaks: readonly (readonly [name: string, tflops: number])[] = [['H100', 989]];

/** What is decoded. */
export interface SpeculationSize {
  readonly shape: string;
  readonly weights: DrawnFormat;
  readonly context: number;
  readonly n: readonly number[];
  readonly maxTokens: number;
}

/** The first shape and format with a draft whose guesses are right as often as is imposed. */
export function speculationJobs({ shapes, weights, contexts, n = batches }: GpuOptions): Job[] {
  const [shape, format] = [shapes[0], weights[0]];
  if (!shape || !format) return [];
  const size = { shape, weights: format, context: Math.min(longestPrompt, ...contexts), n, maxTokens };
  return [{ name: `speculation ${shape} ${format}`, rank: 6, run: (bench) => benchDrafts(bench, size) }];
}

/** Times plain decoding and each acceptance and length through the engine, a batch after the other. */
export async function benchDrafts(bench: Bench, size: SpeculationSize): Promise<void> {
  const { shape, weights } = size;
  const draft = drafts[shape] ?? bassDraft;
  for (const part of [shape, draft[0]]) await checkTwin(bench.device, part, weights, [1, 8]);
  const decoder = await bench.models.get(shape, weights);
  const engine = await engineOf(bench, decoder, randomSource(...draft, decoder.config.contextLength));
  try {
    for (const n of size.n) {
      await attempt(bench, `speculation ${shape}, n = ${n}`, async () => {
        for (const row of await batchRows(bench, engine, decoder, { ...size, n }))
          await bench.report.add(row);
      });
    }
  } finally {
    engine.dispose();
  }
}

async function batchRows(
  { options, report }: Bench,
  engine: Engine,
  decoder: Decoder,
  { shape, weights, context, n, maxTokens }: Omit<SpeculationSize, 'n'> & { n: number },
): Promise<Row[]> {
  const prompt = Array.from({ length: context }, (_, i) => (i * 2654435761) % decoder.config.vocabSize);
  const cases = acceptances.flatMap((acceptance) => lengths.map((length) => ({ acceptance, length })));
  const run = { n: [n], maxTokens, temperature: 0.8, repeats: Math.min(3, options.repeats) };
  const [plain, ...rows] = await benchSpeculation(engine, prompt, cases.map(engineCase), run);
  if (!plain) throw new Error('plain decoding was not timed');
  const flops = usefulFlops(decoder, context + maxTokens / 2);
  const peak = peaks.find(([name]) => report.device.includes(name))?.[1];
  const share = (row: SpeculationRow) => (row.tokensPerSecond * flops) / ((peak ?? NaN) * 1e12);
  return rows.map((row, i) => {
    const { msPerToken, speedup, tokensPerRound, length: draftLength } = row;
    const what = { section: 'speculation', shape, weights, context, n, ...cases[i] };
    const times = { msPerToken, plainMsPerToken: plain.msPerToken, speedup, tokensPerRound, draftLength };
    return { ...what, ...times, ...(peak && { utilisation: share(row), plainUtilisation: share(plain) }) };
  });
}

function engineCase({
  acceptance,
  length,
}: {
  acceptance: number;
  length: (typeof lengths)[number];
}): SpeculationCase {
  const options = { draftLength: length, acceptance: imposedAcceptance(acceptance) };
  return { draft: `${acceptance}, ${length}`, options, imposed: acceptance };
}

/**
 * What counts as useful in utilisation, as BASS prints it: the target's work for a token that was kept, two operations
 * for each weight and four for each query element and key. Drafts and rejected guesses are not useful.
 */
function usefulFlops({ config }: Decoder, keys: number): number {
  const { layers, heads, headDim, hiddenSize, vocabSize } = config;
  const weights = layerParameters(config) * layers.length + vocabSize * hiddenSize;
  return 2 * weights + 4 * heads * headDim * layers.length * keys;
}
