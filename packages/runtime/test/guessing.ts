import { Decoder, openSafetensors, openWeights, parseConfig } from '@ensample/mixattn-model';
import { promptLookup, rejection, siblingLookup, type AcceptanceRule } from '@ensample/spec-decode';
import type { Device } from '@ensample/tensor';
import { tinyFiles, tinyModel, type Filters, type TinyModelOptions } from '@ensample/testing';
import {
  createEngine,
  type Draft,
  type GenerateOptions,
  type GenerateStats,
  type ModelSource,
  type Session,
} from '../src/index.ts';
import { characters } from './tiny-engine.ts';

/** Tokens of the models: few enough that all texts of three can be listed. */
export const vocab = 16;

/** The model whose law counts. */
export const target: ModelSource = smallSource({ layers: '0', contextLength: 128 });
/** The same shape with other weights: its law is another one. */
export const draftModel: ModelSource = smallSource({ layers: '0', contextLength: 128, seed: 5 });

/**
 * Its last token is likely to come again, so that lookups have something to guess from the second token on; so is
 * token 0 under both models, whose noise has the same counter as the coin's but for its kind.
 */
export const prompt: readonly number[] = [5, 7, 4, 3, 4, 12, 6, 14, 7, 0, 6, 9, 7];

/** How the target's tokens are drawn, unless a test says otherwise. */
export const filters: Filters = { temperature: 1.7, topK: 9, topP: 0.9, minP: 0 };

/** What guesses, and at which temperature. One equal token or two suffice for the lookups. */
export const strategies: Readonly<Record<string, Guessing>> = {
  'a draft model': { draft: [draftModel], draftTemperature: 0.8 },
  'a draft model that is greedy': { draft: [draftModel], draftTemperature: 0 },
  'prompt lookup': { draft: [promptLookup({ shortest: 1 })] },
  'sibling lookup': { draft: [siblingLookup({ shortest: 1 })] },
  'all of them': {
    draft: [siblingLookup({ shortest: 1 }), promptLookup({ shortest: 2 }), draftModel],
    draftTemperature: 1.2,
  },
};

/** Where guesses come from. */
export interface Guessing {
  readonly draft: readonly Draft[];
  readonly draftTemperature?: number;
}

/** A random model that knows only the first tokens. */
function smallSource(options: TinyModelOptions): ModelSource {
  return {
    name: 'small',
    load: async (device) => {
      const { configJson, tensors } = tinyModel(options);
      const embedding = tensors['model.embed_tokens.weight']!;
      const [, hidden = 0] = embedding.shape;
      const rows = (embedding.data as Float32Array).subarray(0, vocab * hidden);
      const small = {
        configJson: { ...configJson, vocab_size: vocab },
        tensors: {
          ...tensors,
          'model.embed_tokens.weight': { ...embedding, shape: [vocab, hidden], data: rows },
        },
      };
      const config = parseConfig(small.configJson);
      const file = await openSafetensors(await tinyFiles(small).bytes('model.safetensors'), 'small');
      const model = await Decoder.load(device, config, openWeights(config, file));
      return { model, tokenizer: characters };
    },
  };
}

/** What a draw gives: texts, and what became of the guesses. */
export interface Drawn {
  readonly texts: readonly (readonly number[])[];
  readonly stats: readonly GenerateStats[];
}

/** Draws with rule `rejection`, a run for each draft length. No seed is used twice, for other lengths neither. */
export async function draw(
  device: Device,
  { draft, ...guessing }: Guessing,
  lengths: readonly (number | 'bass')[],
  options: GenerateOptions,
): Promise<Drawn> {
  using engine = await createEngine({ model: target, draft, device, kvType: 'f32' });
  using session: Session = await engine.prefill(prompt);
  const texts: (readonly number[])[] = [];
  const stats: GenerateStats[] = [];
  for (const [run, draftLength] of lengths.entries()) {
    const drawing = { ...filters, ...guessing, draftLength, seed: seeds(draftLength, run) } as const;
    const result = await session.generate({
      ...drawing,
      ...{ acceptance: 'rejection', ignoreEos: true },
      ...options,
    });
    texts.push(...result.samples.map(({ tokens }) => tokens));
    stats.push(result.stats);
  }
  return { texts, stats };
}

function seeds(length: number | 'bass', run: number): number {
  return 1000 * (100 * (length === 'bass' ? 0 : length) + run);
}

/** Rule `rejection` with a mistake in it: `right`, a piece of its shader, is replaced by `wrong`. */
export function mistaken(name: string, right: string, wrong: string): AcceptanceRule {
  return {
    name,
    needsLaws: rejection.needsLaws,
    judge(pass, tensors, shape) {
      const careless: typeof pass = {
        device: pass.device,
        run(kernel, bound, grid) {
          const code = kernel.code.replace(right, wrong);
          if (code === kernel.code) throw new Error(`kernel ${kernel.name} has no "${right}" to replace`);
          pass.run({ ...kernel, code }, bound, grid);
        },
      };
      rejection.judge?.(careless, tensors, shape);
    },
  };
}
