import { KvCache, type KvLayout, type Sequence } from '@ensample/kv-cache';
import type { Decoder } from '@ensample/mixattn-model';
import { OutOfMemoryError, type Device, type Recording } from '@ensample/tensor';
import { median } from '../results.ts';
import { compareReadings, recordStep, type Running, type Step } from '../step.ts';
import { layerParameters, tableFormat, weightBytes, type DrawnFormat } from '../synthetic.ts';
import { attempt, type Bench, type GpuOptions, type Job } from './bench.ts';
import { gpuTime } from './clock.ts';
import { repeatsFor } from './repeats.ts';
import { drawKv } from './draw.ts';
import type { Row } from './report.ts';
import { checkTwin } from './twin.ts';
import { warmUp } from './warm-up.ts';

/** Tokens that each sample has of its own. */
const own = 64;

/** Sample counts, the most interesting first; the first ones come before all else at the first context. */
const first = [16, 32, 1, 2];
const rest = [8, 4, 64, 128];
const elsewhere = [16, 1, 32, 4, 8, 64, 128];

/**
 * The plain reading is slow. It is timed up to here; with other weights than the first, whose attention is the same,
 * only at the first context, and compared with up to so many tokens read.
 */
const plainUpTo = { n: 32, context: 16384, tokens: 2 ** 20 } as const;

/** What a step is measured of. */
export interface DecodeCase {
  readonly shape: string;
  readonly weights: DrawnFormat;
  readonly context: number;
  readonly n: readonly number[];
}

/** Decode steps of every shape, format and context. */
export function decodeJobs(options: GpuOptions): Job[] {
  const { shapes, weights, contexts, n } = options;
  const job = (rank: number, one: DecodeCase): Job => ({
    name: `decode ${one.shape} ${one.weights} ${one.context}`,
    rank,
    run: (bench) => benchDecode(bench, one),
  });
  return shapes.flatMap((shape, i) =>
    contexts.flatMap((context, j) =>
      weights.flatMap((format, k) => {
        const one = { shape, context, weights: format };
        const later = 10 + 6 * i + 2 * j + k;
        if (i + j + k > 0) return [job(later, { ...one, n: n ?? elsewhere })];
        return n ? [job(0, { ...one, n })] : [job(0, { ...one, n: first }), job(2, { ...one, n: rest })];
      }),
    ),
  );
}

/** Times a step for each n, and adds the rows. Sample counts that do not fit in memory are left out. */
export async function benchDecode(bench: Bench, one: DecodeCase): Promise<void> {
  await checked(bench, one);
  const { shape, weights, context } = one;
  const decoder = await bench.models.get(shape, weights);
  const name = (n: number) => `decode ${shape} ${weights} ${context}, n = ${n}`;
  let counts = one.n;
  while (counts.length > 0) {
    const most = Math.max(...counts);
    try {
      await withPrompt(bench, decoder, { context, n: most }, async (running, prompt) => {
        for (const n of counts) {
          await attempt(bench, name(n), async () => {
            const measure = (leaves: readonly Sequence[]) => decodeRow(bench, running, leaves, one);
            await bench.report.add(await withSamples(prompt, n, measure));
          });
        }
      });
      return;
    } catch (error) {
      if (!(error instanceof OutOfMemoryError)) throw error;
      await bench.report.skip(name(most), error.message);
      counts = counts.filter((n) => n < most);
    }
  }
}

/** Small twins are checked once for a shape and format, with all row counts that products have variants for. */
const twins = new WeakMap<Bench, Map<string, Promise<number>>>();

async function checked(bench: Bench, { shape, weights }: DecodeCase): Promise<void> {
  const known = twins.get(bench) ?? new Map<string, Promise<number>>();
  twins.set(bench, known);
  const name = `${shape} ${weights}`;
  const { n = [...first, ...rest] } = bench.options;
  const check = known.get(name) ?? checkTwin(bench.device, shape, weights, n);
  known.set(name, check);
  await check;
}

/** How large a prompt is, and what samples have of their own. */
interface PromptSize {
  readonly context: number;
  readonly n: number;
  readonly leafTokens?: number;
}

/** Runs `use` with a random prompt of `context` tokens, and room for n samples. */
export function withPrompt(
  { device }: Bench,
  decoder: Decoder,
  size: PromptSize,
  use: (running: Running, prompt: Sequence) => Promise<void>,
): Promise<void> {
  return withPromptKv(device, decoder.layout, size, (cache, prompt) =>
    use({ device, decoder, cache }, prompt),
  );
}

/** The same without a model. */
export async function withPromptKv(
  device: Device,
  layout: KvLayout,
  { context, n, leafTokens = own + 1 }: PromptSize,
  use: (cache: KvCache, prompt: Sequence) => Promise<void>,
): Promise<void> {
  const cache = new KvCache(device, layout);
  try {
    await device.checkMemory(`the KV of ${context} tokens and ${n} samples`, () => {
      const leaf = (kind: KvCache['kinds'][number]) => cache.pagesFor(kind, leafTokens, leafTokens);
      cache.ensure(cache.kinds.map((kind) => cache.pagesFor(kind, context, context) + n * leaf(kind)));
    });
    await drawKv(cache);
    const prompt = cache.sequence();
    prompt.reserve(context);
    prompt.commit(context);
    prompt.seal();
    await use(cache, prompt);
  } finally {
    cache.destroy();
  }
}

/** Runs `use` with n samples of a prompt, each with tokens of its own. */
export async function withSamples<T>(
  prompt: Sequence,
  n: number,
  use: (leaves: readonly Sequence[]) => Promise<T>,
): Promise<T> {
  const leaves = Array.from({ length: n }, () => prompt.fork());
  try {
    for (const leaf of leaves) {
      leaf.reserve(own + 1);
      leaf.commit(own);
    }
    return await use(leaves);
  } finally {
    for (const leaf of leaves) leaf.release();
  }
}

async function decodeRow(
  bench: Bench,
  running: Running,
  leaves: readonly Sequence[],
  { shape, weights, context }: Omit<DecodeCase, 'n'>,
): Promise<Row> {
  const n = leaves.length;
  const steps: Step[] = [];
  try {
    for (const reading of ['shared', 'per-sequence'] as const)
      steps.push(await recordStep(running, leaves, { reading }));
    const [shared, plain] = steps as [Step, Step];
    const first = weights === bench.options.weights[0];
    const compared = first || n * context <= plainUpTo.tokens;
    const difference = compared ? await compareReadings(running, shared, plain, `n = ${n}`) : undefined;
    const short = n <= plainUpTo.n && context <= plainUpTo.context;
    const timed = short && (first || context === bench.options.contexts[0]);
    const { ms, plainMs } = await timeInTurns(bench, shared.recording, timed ? plain.recording : undefined);
    const floorMs = floor(bench, running, { weights, context, n });
    const plainly = plainMs === undefined ? {} : { plainMs, ratio: plainMs / ms };
    const where = { section: 'decode', shape, weights, context, n, own };
    return { ...where, ms, ...plainly, floorMs, share: floorMs / ms, difference };
  } finally {
    for (const step of steps) step.destroy();
  }
}

/** Medians; steps that are long are repeated less often where they are but the baseline. */
async function timeInTurns(
  { device, options }: Bench,
  shared: Recording,
  plain: Recording | undefined,
): Promise<{ ms: number; plainMs?: number }> {
  const sides = [shared, plain].flatMap((recording) =>
    recording ? [{ recording, times: [] as number[], steps: 1 }] : [],
  );
  const time = async (side: (typeof sides)[number]): Promise<number> => {
    const all = await gpuTime(device, (encoder) => {
      for (let i = 0; i < side.steps; i++) side.recording.encode(encoder);
    });
    return all / side.steps;
  };
  shared.submit(); // compiles what is left to compile
  await warmUp(device);
  for (const side of sides) side.steps = repeatsFor(await time(side), options.least);
  for (let i = 0; i < options.repeats; i++) {
    for (const side of sides) {
      if (side.recording === shared || side.steps > 1 || i < 3) side.times.push(await time(side));
    }
  }
  const [ms = NaN, plainMs] = sides.map(({ times }) => median(times));
  return plainMs === undefined ? { ms } : { ms, plainMs };
}

/** Milliseconds that it takes to read what must be read: all weights once, the prompt's KV once, each sample's own. */
function floor(
  { bandwidth }: Bench,
  { decoder, cache }: Running,
  { weights, context, n }: { weights: DrawnFormat; context: number; n: number },
): number {
  const { hiddenSize, vocabSize, kvHeads, headDim, layers } = decoder.config;
  const products = layerParameters(decoder.config) * layers.length * weightBytes[weights];
  const head = hiddenSize * vocabSize * weightBytes[tableFormat(weights)];
  const token = 2 * kvHeads * headDim * layers.length * (cache.dtype === 'f16' ? 2 : 4);
  return (products + head + token * (context + n * (own + 1))) / bandwidth;
}
