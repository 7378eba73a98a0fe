import { attentionPreset, type AttentionPreset, type Decoder } from '@ensample/mixattn-model';
import type { Device } from '@ensample/tensor';
import { median } from '../results.ts';
import { recordStep, type Step } from '../step.ts';
import { drawnDecoder, layerParameters, weightBytes, type Shape } from '../synthetic.ts';
import { attempt, type Bench, type GpuOptions, type Job } from './bench.ts';
import { gpuTime } from './clock.ts';
import { repeatsFor } from './repeats.ts';
import { engineOf } from './prefill.ts';
import type { Row } from './report.ts';
import { withMostSequences, type Served, type ServedSize } from './served.ts';
import { checkTwinOf } from './twin.ts';

/** Layouts that the paper serves, the most interesting first; all are compared with the first. */
const presets: readonly AttentionPreset[] = [
  ...(['standard', 'MA-Offset', 'MA-Pairs', 'MA', 'sliding-only'] as const),
  ...(['MA-Pairs-SlideShare', 'MA-Offset-SlideShare', 'MA-Successive-1', 'MA-NoShare-1'] as const),
];

/** What is served. */
export interface Serving extends ServedSize {
  readonly shape: Shape;
  readonly layers: number;
  readonly window: number;
}

/**
 * The paper's heads, depth, window and lengths (arXiv 2409.15012 §4). Its model is a mixture of experts with 1.64 billion
 * active parameters, of a width that it does not tell: here as many in a dense one. Head size 128 is what its number of
 * tokens in memory implies.
 */
const paper: Omit<Serving, 'memory'> = {
  shape: { hiddenSize: 1536, heads: 12, kvHeads: 3, headDim: 128, intermediateSize: 12672, vocabSize: 32000 },
  layers: 24,
  window: 1024,
  prompt: 31000,
  output: 1000,
};

/** Of an H100's 80 GB; the rest is left to the driver. */
const cardBytes = 76e9;

/** The paper's model under its layouts. */
export function mixAttentionJobs({ memory = cardBytes }: GpuOptions): Job[] {
  return [
    { name: 'mixattention', rank: 9, run: (bench) => benchLayouts(bench, { ...paper, memory }, presets) },
  ];
}

/** Measures layouts, each with as many sequences as there is memory for. */
export async function benchLayouts(
  bench: Bench,
  serving: Serving,
  layouts: readonly AttentionPreset[],
): Promise<void> {
  bench.models.release();
  await checkLayers(bench.device, serving.shape);
  let standard: Measured | undefined;
  for (const preset of layouts) {
    await attempt(bench, `mixattention ${preset}`, async () => {
      const measured = await measure(bench, serving, preset);
      if (preset === layouts[0]) standard = measured;
      await bench.report.add({ section: 'mixattention', preset, ...figures(measured, serving, standard) });
    });
  }
}

interface Measured {
  readonly sequences: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
  readonly floorMs: number;
  readonly kvBytesPerSequence: number;
}

/**
 * Tokens per second are counted as in the paper, prompts included: a batch of sequences is prefilled one after the other
 * and then decoded to the end.
 */
function figures(
  measured: Measured,
  { output }: Serving,
  standard: Measured | undefined,
): Omit<Row, 'section'> {
  const rate = ({ sequences, prefillMs, decodeMs }: Measured) =>
    (1000 * sequences * output) / (sequences * prefillMs + output * decodeMs);
  const decodeRate = ({ sequences, decodeMs }: Measured) => (1000 * sequences) / decodeMs;
  const own = { tokensPerSecond: rate(measured), ...measured, share: measured.floorMs / measured.decodeMs };
  return {
    ...own,
    ...(standard && {
      kvRatio: standard.kvBytesPerSequence / measured.kvBytesPerSequence,
      ratio: rate(measured) / rate(standard),
      decodeRatio: decodeRate(measured) / decodeRate(standard),
    }),
  };
}

async function measure(bench: Bench, serving: Serving, preset: AttentionPreset): Promise<Measured> {
  const { device } = bench;
  const { shape, prompt, output, window } = serving;
  const decoder = await drawnDecoder(device, shape, {
    name: preset,
    layers: attentionPreset(preset, { layers: serving.layers, window }),
    contextLength: prompt + output,
    weights: 'f16',
  });
  try {
    const prefillMs = await timePrefill(bench, decoder, prompt);
    const step = await withMostSequences(device, decoder, serving, (served) =>
      timeStep(bench, decoder, served),
    );
    return { prefillMs, ...step };
  } finally {
    decoder.destroy();
  }
}

/** Milliseconds of one prompt through the engine, of which the first run compiles. */
async function timePrefill({ device }: Bench, decoder: Decoder, tokens: number): Promise<number> {
  const engine = await engineOf({ device }, decoder);
  try {
    const prompt = Array.from({ length: tokens }, (_, i) => (i * 2654435761) % decoder.config.vocabSize);
    let ms = NaN;
    for (const part of [prompt.slice(0, 600), prompt]) {
      const began = performance.now();
      const session = await engine.prefill(part);
      ms = performance.now() - began;
      session.dispose();
    }
    return ms;
  } finally {
    engine.dispose();
  }
}

/** Small twins with what layouts are made of: windows much shorter than a prompt, reused keys of either kind. */
async function checkLayers(device: Device, { heads, kvHeads, headDim }: Shape): Promise<void> {
  const twin = { name: 'MixAttention', heads, kvHeads, headDim, weights: 'f16', window: 24 } as const;
  for (const layers of ['0 1s 0', '0s 1 0s']) await checkTwinOf(device, { ...twin, layers }, [1, 8]);
}

/** Milliseconds of a step of all sequences, and of reading what it must read. */
async function timeStep(
  { device, options, bandwidth }: Bench,
  decoder: Decoder,
  { cache, sequences, kvBytesPerSequence }: Served,
): Promise<Omit<Measured, 'prefillMs'>> {
  let step: Step | undefined;
  try {
    await device.checkMemory(`a step of ${sequences.length} rows`, async () => {
      step = await recordStep({ device, decoder, cache }, sequences);
    });
    if (!step) throw new Error('no step');
    const { recording, attention } = step;
    const time = (count: number) =>
      gpuTime(device, (encoder) => {
        for (let i = 0; i < count; i++) recording.encode(encoder);
      });
    const count = repeatsFor(await time(1), options.least);
    const times: number[] = [];
    for (let i = 0; i < options.repeats; i++) times.push((await time(count)) / count);
    await checkFinite(device, step);
    const floorMs = (readWeights(decoder) + attention.reads.planned) / bandwidth;
    return { sequences: sequences.length, decodeMs: median(times), floorMs, kvBytesPerSequence };
  } finally {
    step?.destroy();
  }
}

/** Bytes of weights that a step reads. */
function readWeights({ config }: Decoder): number {
  const { layers, kvHeads, headDim, hiddenSize, vocabSize } = config;
  const reusing = layers.filter(({ kvSource }, i) => kvSource !== i).length;
  const inLayers = layers.length * layerParameters(config) - reusing * 2 * kvHeads * headDim * hiddenSize;
  return weightBytes.f16 * (inLayers + vocabSize * hiddenSize);
}

/** Every row's logits must be numbers that differ: else something else was timed. */
async function checkFinite(device: Device, { logits }: Step): Promise<void> {
  const values = await device.read(logits);
  const [, vocab = 1] = logits.shape;
  for (let row = 0; row < values.length; row += vocab) {
    const [low, high] = [0, 1].map((i) => values[row + i] ?? NaN) as [number, number];
    if (!Number.isFinite(low) || !Number.isFinite(high) || low === high)
      throw new Error(`row ${row / vocab} of the step has no logits`);
  }
}
