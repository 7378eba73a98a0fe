import { Decoder, type ModelConfig, type WeightReader } from '@ensample/mixattn-model';
import { InvalidOptionError, type Device, type Matrix } from '@ensample/tensor';
import { drawMatrix } from './gpu/draw.ts';

/** What a model is made of, besides its depth. */
export type Shape = Pick<
  ModelConfig,
  'hiddenSize' | 'heads' | 'kvHeads' | 'headDim' | 'intermediateSize' | 'vocabSize'
>;

const size7b = { hiddenSize: 4096, heads: 32, headDim: 128, vocabSize: 32000 } as const;

/** Shapes of published models, and a tiny one to test with; weights are drawn at random, since speed does not depend on them. */
const shapes: Readonly<Record<string, Shape>> = {
  '7b': { ...size7b, kvHeads: 32, intermediateSize: 11008 },
  '8b-gqa': { ...size7b, kvHeads: 8, intermediateSize: 14336 },
  // A draft of BASS's kind for these: wide and shallow (8 layers), 0.3 billion parameters.
  '300m': {
    hiddenSize: 1536,
    heads: 12,
    kvHeads: 12,
    headDim: 128,
    intermediateSize: 4096,
    vocabSize: 32000,
  },
  tiny: { hiddenSize: 64, heads: 4, kvHeads: 2, headDim: 32, intermediateSize: 96, vocabSize: 96 },
};

/** Formats that weights are drawn in. */
export type DrawnFormat = 'f16' | 'int8' | 'int4';

/** @throws InvalidOptionError for a shape that is not known */
export function shapeOf(name: string): Shape {
  const shape = shapes[name];
  if (!shape)
    throw new InvalidOptionError(`shape is "${name}": it must be one of ${Object.keys(shapes).join(', ')}`);
  return shape;
}

/** Format of the embedding and of the output matrix: int4 is too coarse for them. */
export function tableFormat(weights: DrawnFormat): DrawnFormat {
  return weights === 'int4' ? 'int8' : weights;
}

/** Bytes of a weight, scales included. */
export const weightBytes: Readonly<Record<DrawnFormat, number>> = {
  f16: 2,
  int8: 1 + 1 / 16,
  int4: 1 / 2 + 1 / 16,
};

/** Weights of a layer's products. */
export function layerParameters(shape: Shape): number {
  const { hiddenSize, heads, kvHeads, headDim, intermediateSize } = shape;
  return hiddenSize * ((2 * heads + 2 * kvHeads) * headDim + 3 * intermediateSize);
}

/** A decoder of a published shape whose random weights were made on the device. */
export async function syntheticDecoder(
  device: Device,
  name: string,
  layers: number,
  contextLength: number,
  weights: DrawnFormat = 'f16',
): Promise<Decoder> {
  const full = Array.from({ length: layers }, (_, i) => ({ kind: 'full', kvSource: i }) as const);
  return drawnDecoder(device, shapeOf(name), { name, layers: full, contextLength, weights });
}

/** What a {@link drawnDecoder} has besides its shape. */
export interface DrawnOptions extends Pick<ModelConfig, 'layers' | 'contextLength'> {
  readonly name: string;
  readonly weights: DrawnFormat;
}

/** A decoder of any shape and layers whose random weights were made on the device. */
export function drawnDecoder(
  device: Device,
  shape: Shape,
  { name, layers, contextLength, weights }: DrawnOptions,
): Promise<Decoder> {
  const config: ModelConfig = {
    ...shape,
    architecture: `random-${name}`,
    layers,
    normEps: 1e-5,
    ropeTheta: 10000,
    contextLength,
    tieEmbeddings: false,
    eosTokenIds: [],
  };
  return Decoder.load(device, config, drawnWeights(device, config, weights));
}

function drawnWeights(device: Device, config: ModelConfig, format: DrawnFormat): WeightReader<Matrix> {
  const { hiddenSize, heads, kvHeads, headDim, intermediateSize, vocabSize, layers } = config;
  const norm = new Float32Array(hiddenSize).fill(1);
  let seed = 0;
  const matrix = (rows: number, columns: number, as = format) =>
    drawMatrix(device, { format: as, rows, columns }, (seed += 1000));
  const table = () => matrix(vocabSize, hiddenSize, tableFormat(format));
  return {
    embedding: table,
    finalNorm: () => Promise.resolve(norm),
    head: table,
    layer: async (index) => ({
      inputNorm: norm,
      postNorm: norm,
      qkv: await matrix(
        (heads + (layers[index]?.kvSource === index ? 2 * kvHeads : 0)) * headDim,
        hiddenSize,
      ),
      output: await matrix(hiddenSize, heads * headDim),
      gateUp: await matrix(2 * intermediateSize, hiddenSize),
      down: await matrix(hiddenSize, intermediateSize),
    }),
  };
}
