import { Decoder, openSafetensors, openWeights } from '@ensample/mixattn-model';
import type { Device } from '@ensample/tensor';
import { seeded, tinyFiles, tinyModel, type TinyModelOptions } from '@ensample/testing';
import {
  createEngine,
  type Engine,
  type EngineOptions,
  type ModelSource,
  type Tokenizer,
} from '../src/index.ts';

/** One visible character a token: id 1 is a blank, id 95 a tilde; id 0 ends a text. */
export const characters: Tokenizer = {
  vocabSize: 96,
  encode: (text) => Array.from(text, (char) => char.charCodeAt(0) - 31),
  decode: (ids) => ids.map(charOf).join(''),
  specialId: () => 0,
  stream: () => ({ push: charOf, flush: () => '' }),
};

function charOf(id: number): string {
  return id === 0 ? '' : String.fromCharCode(31 + id);
}

/** A random model of four layers with windows of 16 and KV reuse. */
export function tinySource(options: TinyModelOptions = {}): ModelSource {
  return {
    name: 'tiny',
    load: async (device) => {
      const model = tinyModel(options);
      const file = await openSafetensors(await tinyFiles(model).bytes('model.safetensors'), 'tiny');
      const decoder = await Decoder.load(device, model.config, openWeights(model.config, file));
      return { model: decoder, tokenizer: characters };
    },
  };
}

/** The decoder of such a source. */
export async function loadDecoder(device: Device, source: ModelSource): Promise<Decoder> {
  const { model } = await source.load(device);
  if (model instanceof Decoder) return model;
  throw new Error(`${source.name} is no decoder`);
}

/** An engine with that model on a device of the test's own. */
export function tinyEngine(
  device: Device,
  options: TinyModelOptions = {},
  engine: Partial<EngineOptions> = {},
): Promise<Engine> {
  return createEngine({ model: tinySource(options), device, ...engine });
}

/** Random token ids that end nothing. */
export function prompt(length: number, seed = 3): number[] {
  const random = seeded(seed);
  return Array.from({ length }, () => 1 + random.integer(95));
}
