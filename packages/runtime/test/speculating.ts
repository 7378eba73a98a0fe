import { KvCache } from '@ensample/kv-cache';
import type { DraftStrategy } from '@ensample/spec-decode';
import { kernel, sequenceChunk, type Device } from '@ensample/tensor';
import { expect, vi } from 'vitest';
import type { Engine, GenerateOptions, GenerateStats, Sample } from '../src/index.ts';
import { prompt, tinyEngine } from './tiny-engine.ts';

export type Layout = 'full' | 'windows';
/** All layers see everything; or windows of 16, and KV reuse: rings go round several times in 88 tokens. */
export const layouts: Readonly<Record<Layout, string>> = { full: '0 1 2 3', windows: '0s 1 0s 1' };

export interface Request extends GenerateOptions {
  readonly prompt: readonly number[];
  readonly seed: number;
}
export const request: Request = { prompt: prompt(40), maxTokens: 88, ignoreEos: true, seed: 5 };

/** Six tokens and no others, so that n-grams come again. */
const fewTokens = Object.fromEntries([10, 11, 12, 13, 14, 15].map((id) => [id, 50]));

export type Sampling = 'greedy' | 'drawn' | 'few' | 'shaped';
export const samplings: Readonly<Record<Sampling, GenerateOptions>> = {
  greedy: { temperature: 0 },
  /** Hot: a model that draws by the target's noise then often draws the target's token. */
  drawn: { temperature: 2, topP: 0.97 },
  few: { temperature: 0.7, topP: 1, logitBias: fewTokens },
  shaped: {
    ...{ temperature: 0.9, topK: 20, topP: 0.9, minP: 0.02 },
    ...{ repetitionPenalty: 1.2, presencePenalty: 0.3, frequencyPenalty: -0.4 },
    logitBias: { 7: 3, 9: -2, 30: 1 },
  },
};

/** Gives the first n samples. */
export type PlainRuns = (layout: Layout, sampling: Sampling, n: number) => Promise<readonly Sample[]>;

/** Samples of plain decoding, each run made once: sample i is the same in a batch of any size. */
export function plainRuns(device: () => Device): PlainRuns {
  const runs = new Map<string, readonly Sample[]>();
  return async (layout, sampling, n) => {
    const key = `${layout} ${sampling}`;
    if ((runs.get(key)?.length ?? 0) < n) {
      const layers = layouts[layout];
      using engine = await tinyEngine(device(), { layers }, { draft: 'none', kvType: 'f32' });
      const options = { ...request, ...samplings[sampling], n, logprobs: true };
      runs.set(key, (await engine.generate(options)).samples);
    }
    return runs.get(key)!.slice(0, n);
  };
}

const opened = vi.spyOn(KvCache.prototype, 'sequence');

/** Bytes of KV pages in use by all engines of this process, their draft models' too. */
export function pagesInUse(): number {
  if (Reflect.get(KvCache.prototype, 'sequence') !== opened) throw new Error('the watch on caches is gone');
  const caches = new Set(opened.mock.contexts as KvCache[]);
  return [...caches].reduce((sum, { memory }) => sum + memory.used, 0);
}

/** Samples must be the same; log-probabilities up to the rounding of f32. */
export function expectSameSamples(drafted: readonly Sample[], plain: readonly Sample[]): void {
  expect(drafted.map(withoutLogprobs)).toEqual(plain.map(withoutLogprobs));
  drafted.forEach(({ logprobs, meanLogprob }, i) => {
    expect(meanLogprob).toBeCloseTo(plain[i]!.meanLogprob, 4);
    expect(logprobs?.length).toBe(plain[i]!.logprobs?.length);
    logprobs?.forEach((logprob, at) => expect(logprob).toBeCloseTo(plain[i]!.logprobs![at]!, 3));
  });
}

function withoutLogprobs({ index, text, tokens, finishReason }: Sample) {
  return { index, text, tokens, finishReason };
}

/** Runs with drafts and without must give the same samples, some guesses must be kept, and all pages come back. */
export async function expectAsPlain(
  engine: Engine,
  options: GenerateOptions & { readonly prompt: readonly number[] },
  plain?: readonly Sample[],
): Promise<GenerateStats> {
  const before = pagesInUse();
  const expected = plain ?? (await engine.generate({ ...options, logprobs: true, draftLength: 0 })).samples;
  const { samples, stats } = await engine.generate({ ...options, logprobs: true });
  expectSameSamples(samples, expected);
  expectCounts(stats);
  expect(stats.acceptedDraftTokens).toBeGreaterThan(0);
  expect(pagesInUse()).toBe(before);
  return stats;
}

/** The counts of a run must fit together. */
export function expectCounts(stats: GenerateStats): void {
  const { speculation, acceptedDraftTokens, rejectedDraftTokens, generatedTokens, steps } = stats;
  const strategies = speculation?.strategies ?? [];
  const sum = (of: (counts: (typeof strategies)[number]) => number) =>
    strategies.reduce((total, counts) => total + of(counts), 0);
  expect(acceptedDraftTokens).toBe(sum(({ accepted }) => accepted));
  expect(rejectedDraftTokens).toBe(sum(({ rejected }) => rejected));
  expect(acceptedDraftTokens).toBeLessThanOrEqual(generatedTokens);
  expect(speculation?.rounds ?? 0).toBeLessThanOrEqual(steps);
  for (const { acceptance } of [...strategies, ...(speculation ? [speculation] : [])]) {
    expect(acceptance).toBeGreaterThanOrEqual(0);
    expect(acceptance).toBeLessThanOrEqual(1);
  }
  if (!speculation) return;
  expect(speculation.tokensPerRound).toBeGreaterThanOrEqual(1);
  expect(speculation.tokensPerRound).toBeLessThanOrEqual(speculation.draftLength + 1);
}

/** Right guesses that {@link oracle} makes for a sample whose pending token is at `position`, before a wrong one. */
export function rightGuesses(position: number, sample: number): number {
  return (position * 7 + sample * 5) % 11;
}

export interface Oracle {
  readonly strategy: DraftStrategy;
  /** Frees what it knows. */
  destroy(): void;
}

/**
 * A strategy of our own, which knows what plain decoding gives: right guesses as {@link rightGuesses} says, then a
 * wrong one, then none. So lengths of kept drafts are imposed from outside, and differ from sample to sample.
 */
export function oracle(device: Device, texts: readonly (readonly number[])[]): Oracle {
  const room = Math.max(...texts.map(({ length }) => length));
  const truth = device.tensor('u32', [texts.length, room]);
  const words = texts.flatMap((text) => Array.from({ length: room }, (_, i) => text[i] ?? 0));
  device.write(truth, Uint32Array.from(words));
  const strategy: DraftStrategy = {
    name: 'oracle',
    propose: async ({ tensors, origin, record }) => {
      const { slots, sequences, states, history } = tensors;
      const constants = { ROOM: room, ORIGIN: origin };
      const code = kernel('oracle', { constants }, sequenceChunk, oracleBody);
      return [
        await record('oracle', (pass) => pass.run(code, { slots, sequences, states, history, truth }, [4])),
      ];
    },
  };
  return { strategy, destroy: () => truth.destroy() };
}

const oracleBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> slots: array<vec4u>;
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read> states: array<State>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;
@group(0) @binding(4) var<storage, read> truth: array<u32>;              // [samples, ROOM]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= slots[0].x) { return; }
  let q = slots[1u + id.x].y;
  let s = sequences[q];
  let pending = states[q].position;
  let right = (pending * 7u + q * 5u) % 11u;
  for (var j = 0u; j + 1u < slots[0].y && j <= right && pending + 1u + j < s.end; j++) {
    let p = pending + 1u + j;
    let at = history_index(s, p);
    if (history[at] != NONE) { continue; }
    let token = truth[q * ROOM + p - s.start];
    history[at] = select((token + 1u) % 96u, token, j < right) | (ORIGIN << 24u);
  }
}
`;
