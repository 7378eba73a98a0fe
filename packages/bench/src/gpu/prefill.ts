import type { Decoder } from '@ensample/mixattn-model';
import { createEngine, type Engine, type Model, type ModelSource } from '@ensample/runtime';
import { median } from '../results.ts';
import { idTokenizer } from '../speculation/random-source.ts';
import { layerParameters, type DrawnFormat } from '../synthetic.ts';
import type { Bench, GpuOptions, Job } from './bench.ts';

/** Runs of each length; a prompt takes a second or so. */
const repeats = 3;

/** Prompts of the first shape and format. */
export function prefillJobs({ shapes, weights }: GpuOptions): Job[] {
  const [shape, format] = [shapes[0], weights[0]];
  if (!shape || !format) return [];
  const run = (bench: Bench) => benchPrefill(bench, shape, format);
  return [{ name: `prefill ${shape} ${format}`, rank: 3, run }];
}

/**
 * Times prompts through the engine, in its chunks, from the call to the last chunk's end. `tflops` counts the products of
 * the layers, two operations a weight and token; attention's come on top in `tflopsWithAttention`.
 */
async function benchPrefill(bench: Bench, shape: string, weights: DrawnFormat): Promise<void> {
  const { options, report, models } = bench;
  const decoder = await models.get(shape, weights);
  const { hiddenSize, heads, kvHeads, headDim, layers, vocabSize } = decoder.config;
  const engine = await engineOf(bench, decoder);
  try {
    for (const tokens of options.prefill) {
      // The last token of a prompt is the first step's input, not part of its prefill.
      const prompt = Array.from({ length: tokens + 1 }, (_, i) => (i * 2654435761) % vocabSize);
      await engine.prefill(prompt.slice(0, 300)).then((session) => session.dispose()); // compiles
      const times: number[] = [];
      for (let i = 0; i < repeats; i++) {
        const began = performance.now();
        const session = await engine.prefill(prompt);
        times.push(performance.now() - began);
        session.dispose();
      }
      const ms = median(times);
      // Of the last layer only queries, keys and values are computed.
      const whole = layers.length - 1;
      const last = hiddenSize * (heads + 2 * kvHeads) * headDim;
      const products = 2 * (layerParameters(decoder.config) * whole + last) * tokens;
      const attention = 4 * heads * headDim * whole * ((tokens * (tokens + 1)) / 2);
      const tflops = products / ms / 1e9;
      const tflopsWithAttention = (products + attention) / ms / 1e9;
      await report.add({ section: 'prefill', shape, weights, tokens, ms, tflops, tflopsWithAttention });
    }
  } finally {
    engine.dispose();
  }
}

/** An engine that leaves the model where it is when it is disposed of. @param draft default: the engine's */
export function engineOf(
  { device }: Pick<Bench, 'device'>,
  decoder: Decoder,
  draft?: ModelSource,
): Promise<Engine> {
  const { config, layout } = decoder;
  const model: Model<ReturnType<Decoder['activations']>> = {
    config,
    layout,
    activations: (rows) => decoder.activations(rows),
    forward: (pass, step) => decoder.forward(pass, step),
    destroy: () => undefined,
  };
  const loaded = { model: model as Model, tokenizer: idTokenizer(config.vocabSize) };
  const source = { name: config.architecture, load: () => Promise.resolve(loaded) };
  return createEngine({ device, model: source, ...(draft && { draft }) });
}
