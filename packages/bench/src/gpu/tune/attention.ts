import { matrixVariant, type AttendVariant, type MatrixLayout } from '@ensample/bifurcated-attn';
import { bytesPerElement, isSoftware } from '@ensample/tensor';
import { shapeOf } from '../../synthetic.ts';
import { attempt, type Bench, type GpuOptions, type Job } from '../bench.ts';
import { withPromptKv, withSamples } from '../decode.ts';
import { AttentionStep } from './attention-step.ts';
import { expectMatrixTier, nameOf, search, type Choices } from './climb.ts';

/** Sample counts, the most interesting first. */
const counts = [16, 1, 32, 2, 4];
/** Bytes of keys and values that layers have together, so that none are in a cache when it is their turn again. */
const poolBytes = 400e6;

const allChoices: Choices<MatrixLayout> = {
  vectors: [16, 32, 64],
  shares: [1, 2, 4],
  keys: [16, 32],
  tasks: [128, 192, 256, 384, 512, 640, 768, 1024],
};
const start: MatrixLayout = { vectors: 16, shares: 2, keys: 16, tasks: 512 };

/** Looks for the best layout of attention on subgroup matrices. */
export function attentionTuning({ shapes, contexts, n = counts }: GpuOptions): Job[] {
  return shapes.flatMap((shape, i) =>
    contexts.map((context, j) => ({
      name: `tune attention ${shape} ${context}`,
      rank: 29 + i / 10 + j / 100,
      run: (bench) => tuneAttention(bench, { shape, context }, n),
    })),
  );
}

interface Case {
  readonly shape: string;
  readonly context: number;
}

/** Adds a row for each layout that is met, and says which was the fastest. @param choices default: all */
export async function tuneAttention(
  bench: Bench,
  one: Case,
  n: readonly number[],
  choices: Choices<MatrixLayout> = allChoices,
): Promise<void> {
  expectMatrixTier(bench);
  const { device } = bench;
  const { heads, kvHeads, headDim } = shapeOf(one.shape);

  const token = 2 * kvHeads * headDim * bytesPerElement[device.tier.kv];
  const depth = isSoftware(device.info) ? 2 : Math.ceil(poolBytes / (token * one.context));
  const layers = Array.from({ length: depth }, (_, kvSource) => ({ kind: 'full', kvSource }) as const);
  const size = { context: one.context, n: Math.max(...n) };
  await withPromptKv(device, { layers, kvHeads, headDim }, size, async (cache, prompt) => {
    for (const samples of n) {
      await attempt(bench, `tune attention, n = ${samples}`, () =>
        withSamples(prompt, samples, async (leaves) => {
          const step = await AttentionStep.make(cache, heads, leaves);
          await tune(bench, { ...one, n: samples }, step, choices).finally(() => step.destroy());
        }),
      );
    }
  });
}

async function tune(
  bench: Bench,
  one: Case & { readonly n: number },
  step: AttentionStep,
  choices: Choices<MatrixLayout>,
): Promise<void> {
  const { report } = bench;
  const add = async (way: string, variant?: AttendVariant): Promise<number> => {
    const us = await step.time(bench, variant);
    await report.add({ section: 'tune', ...one, way, us });
    return us;
  };
  const now = await add('now');
  for (const [kernel, us] of Object.entries(await step.parts(bench)))
    await report.add({ section: 'tune', ...one, way: `now, ${kernel} alone`, us });
  await search(bench, { start, choices, now }, async (layout) => {
    const variant = matrixVariant(step.cache, [layout], layout.tasks);
    return variant && add(nameOf(layout), variant);
  });
}
