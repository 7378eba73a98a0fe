import type { Sequence } from '@ensample/kv-cache';
import type { Decoder } from '@ensample/mixattn-model';
import { InvalidOptionError } from '@ensample/tensor';
// Not from the package's index: that brings the test runner.
import type { DecoderRun } from '@ensample/testing/decoder-run';

/** Samples of one prompt that have got on unequally far. */
export interface RaggedShape {
  /** Tokens of the shared prompt. */
  readonly prompt: number;
  readonly n: number;
  /** Most tokens that a sample has of its own; the fewest are `own / spread`. */
  readonly own: number;
  /** 1 makes all samples equally long. */
  readonly spread: number;
  /** Tokens of a draft; a verify step has one row more for each sample. */
  readonly draft: number;
  /** Draws the lengths. */
  readonly seed: number;
}

/** A sample before a verify step: its keys and values are stored up to the rows of the step. */
export interface RaggedSample {
  readonly sequence: Sequence;
  /** Prompt, its own, and the tokens of the step's rows. */
  readonly tokens: readonly number[];
}

/** Tokens of a prefill step. */
const chunkTokens = 64;

/**
 * Runs the prompt, then each sample's own tokens. Everything a step will need is reserved, and pools are large enough
 * for every sample to be padded to the longest.
 * @throws InvalidOptionError for a shape that is impossible, or too long for the model.
 */
export async function fillSamples(
  run: DecoderRun,
  decoder: Decoder,
  shape: RaggedShape,
): Promise<RaggedSample[]> {
  checkShape(shape, decoder);
  const { prompt, n, own, draft } = shape;
  const { cache } = run;
  const most = own + draft + 1;
  cache.ensure(
    cache.kinds.map(
      (kind) => cache.pagesFor(kind, prompt, chunkTokens) + n * cache.pagesFor(kind, most, most),
    ),
  );
  const token = (position: number) => 5 + ((position * 2654435761) % (decoder.config.vocabSize - 5));
  const shared = Array.from({ length: prompt }, (_, position) => token(position));
  const prefix = cache.sequence();
  await feed(run, prefix, shared);
  prefix.seal();
  const samples: RaggedSample[] = [];
  for (const [i, length] of ownLengths(shape).entries()) {
    const sequence = prefix.fork();
    sequence.reserve(length + draft + 1);
    const rest = Array.from({ length: length + draft + 1 }, (_, j) => token(prompt + j + 7919 * i));
    await feed(run, sequence, rest.slice(0, length));
    samples.push({ sequence, tokens: [...shared, ...rest] });
  }
  prefix.release();
  return samples;
}

async function feed(run: DecoderRun, sequence: Sequence, tokens: readonly number[]): Promise<void> {
  for (let from = 0; from < tokens.length; from += chunkTokens)
    await run.step([{ sequence, tokens: tokens.slice(from, from + chunkTokens) }]);
}

/** What each sample has of its own: lengths drawn evenly from own / spread to own. */
export function ownLengths({ n, own, spread, seed }: RaggedShape): number[] {
  const least = Math.ceil(own / spread);
  let state = seed >>> 0;
  return Array.from({ length: n }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return least + Math.floor((state / 2 ** 32) * (own - least + 1));
  });
}

/** Position up to which padding goes: one past the last row of the longest sample. */
export function paddedEnd(samples: readonly RaggedSample[]): number {
  return Math.max(...samples.map(({ tokens }) => tokens.length));
}

function checkShape(shape: RaggedShape, { config }: Decoder): void {
  for (const name of ['prompt', 'n', 'own', 'draft'] as const) {
    const least = name === 'draft' ? 0 : 1;
    if (!Number.isInteger(shape[name]) || shape[name] < least)
      throw new InvalidOptionError(`${name} is ${shape[name]}: it must be an integer from ${least} on`);
  }
  if (!(shape.spread >= 1))
    throw new InvalidOptionError(`spread is ${shape.spread}: it must be a number from 1 on`);
  const length = shape.prompt + shape.own + shape.draft + 1;
  if (length > config.contextLength) {
    throw new InvalidOptionError(
      `prompt, own tokens and draft take ${length} positions, the model has ${config.contextLength}: shorten one of them`,
    );
  }
}
