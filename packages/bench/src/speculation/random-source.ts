import type { ModelSource, Tokenizer } from '@ensample/runtime';
import { syntheticDecoder } from '../synthetic.ts';

/** A model of a published shape with random weights; its text is the token ids. */
export function randomSource(shape: string, layers: number, contextLength: number): ModelSource {
  return {
    name: `${shape} × ${layers} layers`,
    load: async (device) => {
      const model = await syntheticDecoder(device, shape, layers, contextLength);
      return { model, tokenizer: idTokenizer(model.config.vocabSize) };
    },
  };
}

/** Text is token ids, with spaces between them. */
export function idTokenizer(vocabSize: number): Tokenizer {
  return {
    vocabSize,
    encode: (text) => text.split(' ').map(Number),
    decode: (ids) => ids.join(' '),
    specialId: () => 0,
    stream: () => ({ push: (id) => `${id} `, flush: () => '' }),
  };
}
