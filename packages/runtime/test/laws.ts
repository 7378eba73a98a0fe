import { Decoder } from '@ensample/mixattn-model';
import type { Device } from '@ensample/tensor';
import { chiSquare, DecoderRun, samplingReference, seeded, type Filters } from '@ensample/testing';
import type { ModelSource } from '../src/index.ts';

/** Chances of the right law lie above this but for once in a million tests. */
export const least = 1e-6;
/** Chances of a wrong one must be far below. */
export const clearlyWrong = 1e-9;

/** Probabilities of the tokens after a text. */
export type NextLaw = readonly number[];

/**
 * The target's laws after each token of `texts`, the prompt's last one first: `[text][0 … length]`, from a fresh cache.
 * Undefined where a filter's bound is too near to call in f32.
 */
export async function lawsOf(
  device: Device,
  source: ModelSource,
  prompt: readonly number[],
  texts: readonly (readonly number[])[],
  law: (logits: Float32Array, text: readonly number[]) => NextLaw | undefined,
): Promise<(NextLaw | undefined)[][]> {
  const { model } = await source.load(device);
  if (!(model instanceof Decoder)) throw new Error(`${source.name} is no decoder`);
  const run = new DecoderRun(device, model, { dtype: 'f32' });
  const { vocabSize } = model.config;
  const root = run.cache.sequence();
  if (prompt.length > 1) await run.step([{ sequence: root, tokens: prompt.slice(0, -1) }]);
  const parts = texts.map((text) => ({ sequence: root.fork(), tokens: [...prompt.slice(-1), ...text] }));
  const logits = await run.step(parts);
  run.destroy();
  model.destroy();
  return texts.map((text, i) =>
    [...text, -1].map((_, at) =>
      law(logits[i]!.subarray(vocabSize * at, vocabSize * (at + 1)), text.slice(0, at)),
    ),
  );
}

/** The law that `filters` leave; undefined where f32 and f64 may not agree on what a bound lets through. */
export function filtered(logits: ArrayLike<number>, filters: Filters): NextLaw | undefined {
  const { topP, minP } = filters;
  const left = (change: number): number =>
    samplingReference(logits, {
      ...filters,
      topP: topP < 1 ? topP * (1 + change) : topP,
      minP: minP * (1 + change),
    }).filter((probability) => probability > 0).length;
  return left(-1e-5) === left(1e-5) ? samplingReference(logits, filters) : undefined;
}

/** Exact probabilities of all that the first token, the first two and the first three may be, by token ids. */
export type TripleLaw = readonly ReadonlyMap<string, number>[];

/**
 * The law of the first three tokens after `prompt`, from the target's laws after every text of up to two.
 * @throws Error where a filter's bound is too near to call in f32: take another prompt.
 */
export async function tripleLaw(
  device: Device,
  source: ModelSource,
  prompt: readonly number[],
  filters: Filters,
): Promise<TripleLaw> {
  let texts: readonly { readonly ids: readonly number[]; readonly probability: number }[] = [
    { ids: [], probability: 1 },
  ];
  const tables: Map<string, number>[] = [];
  for (let length = 1; length <= 3; length++) {
    const known = texts.map(({ ids }) => ids);
    const laws = await lawsOf(device, source, prompt, known, (logits) => filtered(logits, filters));
    texts = texts.flatMap(({ ids, probability }, i) => {
      const next = laws[i]!.at(-1);
      if (!next) throw new Error(`after ${ids.join()}, a filter's bound is too near to call`);
      return next.flatMap((p, id) => (p > 0 ? [{ ids: [...ids, id], probability: probability * p }] : []));
    });
    tables.push(new Map(texts.map(({ ids, probability }) => [ids.join(), probability])));
  }
  return tables;
}

/** The least chance of three chi-square tests: of the first token, the first two, the first three. */
export function tripleChance(texts: readonly (readonly number[])[], law: TripleLaw): number {
  const chances = law.map((table, k) => {
    const counts = new Map([...table.keys()].map((key) => [key, 0]));
    for (const text of texts) {
      const key = text.slice(0, k + 1).join();
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    return chiSquare([...counts.values()], [...table.values()]);
  });
  return Math.min(...chances);
}

const bins = 32;

/**
 * The chance of texts under the laws of their tokens, at any length: each token's place in its law, likeliest tokens
 * first, with a random point within the token's own share, is even over 0 to 1 (Rosenblatt 1952).
 */
export function textChance(
  texts: readonly (readonly number[])[],
  laws: readonly (readonly (NextLaw | undefined)[])[],
): number {
  const random = seeded(1);
  const counts = new Uint32Array(bins);
  texts.forEach((text, i) =>
    text.forEach((id, at) => {
      const law = laws[i]![at];
      if (!law) return;
      const own = law[id]!;
      if (own === 0) throw new Error(`text ${i} has token ${id} at ${at}, which the filters leave out`);
      const before = law.reduce((sum, p, other) => sum + (p > own || (p === own && other < id) ? p : 0), 0);
      counts[Math.min(bins - 1, Math.floor(bins * (before + own * random.uniform())))]!++;
    }),
  );
  return chiSquare(counts, new Array<number>(bins).fill(1 / bins));
}
