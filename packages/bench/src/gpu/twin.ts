import { Decoder, openSafetensors, openWeights, type ModelConfig } from '@ensample/mixattn-model';
import type { Device } from '@ensample/tensor';
// Not from the package's index: that brings the test runner.
import { DecoderRun } from '@ensample/testing/decoder-run';
import { decoderReference, expectClose, tinyFiles, tinyModel, tolerance } from '@ensample/testing/reference';
import { shapeOf, type DrawnFormat, type Shape } from '../synthetic.ts';

/** Tokens of the twin's prompt: more than one task of attention has. */
const prompt = 132;
/** Samples have from none to one less than this many tokens of their own. */
const ragged = 8;

/**
 * Checks the whole way from weights to logits on a small twin of a shape (same heads, two layers, narrow) against the
 * reference in f32: prefill, then n samples of different lengths, for each n that is to be timed.
 *
 * All samples are branches of one text, so that one run of the reference has the logits of every row.
 * @param change what a test changes, to see that it is found
 * @returns the largest deviation, relative to the largest logit
 * @throws Error where a logit deviates too much
 */
export function checkTwin(
  device: Device,
  shape: string,
  weights: DrawnFormat,
  counts: readonly number[],
  change: Partial<ModelConfig> = {},
): Promise<number> {
  return checkTwinOf(device, { name: shape, ...shapeOf(shape), weights, layers: '0 1' }, counts, change);
}

/** A twin's heads and layers; see `tinyModel`. */
export interface TwinOptions extends Pick<Shape, 'heads' | 'kvHeads' | 'headDim'> {
  readonly name: string;
  readonly weights: DrawnFormat;
  /** For each layer the owner of its KV, with `s` where it sees a window. */
  readonly layers: string;
  readonly window?: number;
}

/** {@link checkTwin} of any layers. */
export async function checkTwinOf(
  device: Device,
  { name, heads, headDim, ...options }: TwinOptions,
  counts: readonly number[],
  change: Partial<ModelConfig> = {},
): Promise<number> {
  const twin = tinyModel({ ...options, tied: false, sizes: { heads, headDim } });
  const ids = Array.from({ length: prompt + ragged }, (_, i) => (i * 2654435761) % twin.config.vocabSize);
  const expected = decoderReference(twin.config, twin.values, ids);
  const file = await openSafetensors(await tinyFiles(twin).bytes('model.safetensors'), 'twin');
  const config = { ...twin.config, ...change };
  const decoder = await Decoder.load(device, config, openWeights(config, file));
  const run = new DecoderRun(device, decoder);
  try {
    return await compare(run, ids, expected, counts);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const what = `the small twin of ${name} in ${options.weights} is wrong, nothing was timed`;
    throw new Error(`${what}: ${reason}`, { cause });
  } finally {
    run.destroy();
    decoder.destroy();
  }
}

async function compare(
  run: DecoderRun,
  ids: readonly number[],
  expected: Float32Array,
  counts: readonly number[],
): Promise<number> {
  const vocab = expected.length / ids.length;
  const allowed = tolerance[run.cache.dtype === 'f16' ? 'f16Layers' : 'f32'];
  let worst = 0;
  const check = (logits: Float32Array | undefined, first: number) => {
    const { length } = logits ?? [];
    const reference = expected.subarray(first * vocab, first * vocab + length);
    worst = Math.max(worst, expectClose(logits ?? [], reference, allowed));
  };
  const prefix = run.cache.sequence();
  const [logits] = await run.step([{ sequence: prefix, tokens: ids.slice(0, prompt) }]);
  check(logits, 0);
  for (const n of counts) {
    const leaves = Array.from({ length: n }, () => prefix.fork());
    const stored = leaves.map((_, i) => i % ragged);
    const fill = leaves
      .map((sequence, i) => ({ sequence, tokens: ids.slice(prompt, prompt + (stored[i] ?? 0)) }))
      .filter(({ tokens }) => tokens.length > 0);
    if (fill.length > 0) for (const part of await run.step(fill)) check(part, prompt);
    const pending = leaves.map((sequence) => ({ sequence, tokens: ids.slice(sequence.length).slice(0, 1) }));
    const places = leaves.map(({ length }) => length);
    (await run.step(pending)).forEach((part, i) => check(part, places[i] ?? 0));
    for (const leaf of leaves) leaf.release();
  }
  prefix.release();
  return worst;
}
