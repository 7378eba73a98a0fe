import { Decoder, type HostMatrix, type ModelConfig, type WeightReader } from '@ensample/mixattn-model';
import { InvalidOptionError, type Device } from '@ensample/tensor';

type Shape = Pick<
  ModelConfig,
  'hiddenSize' | 'heads' | 'kvHeads' | 'headDim' | 'intermediateSize' | 'vocabSize'
>;

/** Shapes of published models; weights are drawn at random, since speed does not depend on them. */
const shapes: Readonly<Record<string, Shape>> = {
  '7b': { hiddenSize: 4096, heads: 32, kvHeads: 32, headDim: 128, intermediateSize: 11008, vocabSize: 32000 },
  '8b-gqa': {
    hiddenSize: 4096,
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    intermediateSize: 14336,
    vocabSize: 32000,
  },
  // A draft of BASS's kind for these: wide and shallow (8 layers), 0.3 billion parameters.
  '300m': {
    hiddenSize: 1536,
    heads: 12,
    kvHeads: 12,
    headDim: 128,
    intermediateSize: 4096,
    vocabSize: 32000,
  },
};

/** A decoder of a published shape with random f16 weights. */
export async function syntheticDecoder(
  device: Device,
  name: string,
  layers: number,
  contextLength: number,
): Promise<Decoder> {
  const shape = shapes[name];
  if (!shape)
    throw new InvalidOptionError(`shape is "${name}": it must be one of ${Object.keys(shapes).join(', ')}`);
  const config: ModelConfig = {
    ...shape,
    architecture: `random-${name}`,
    layers: Array.from({ length: layers }, (_, i) => ({ kind: 'full', kvSource: i })),
    normEps: 1e-5,
    ropeTheta: 10000,
    contextLength,
    tieEmbeddings: false,
    eosTokenIds: [],
  };
  return Decoder.load(device, config, randomWeights(config));
}

function randomWeights({
  hiddenSize,
  heads,
  kvHeads,
  headDim,
  intermediateSize,
  vocabSize,
}: ModelConfig): WeightReader {
  const norm = new Float32Array(hiddenSize).fill(1);
  const matrix = (rows: number, columns: number) => Promise.resolve(randomF16(rows, columns));
  return {
    embedding: () => matrix(vocabSize, hiddenSize),
    finalNorm: () => Promise.resolve(norm),
    head: () => matrix(vocabSize, hiddenSize),
    layer: async () => ({
      inputNorm: norm,
      postNorm: norm,
      qkv: await matrix((heads + 2 * kvHeads) * headDim, hiddenSize),
      output: await matrix(hiddenSize, heads * headDim),
      gateUp: await matrix(2 * intermediateSize, hiddenSize),
      down: await matrix(hiddenSize, intermediateSize),
    }),
  };
}

/** Values of about ±1/√columns, from a table of bits that is repeated at odd offsets: drawing each would take minutes. */
function randomF16(rows: number, columns: number): HostMatrix {
  const period = 99991;
  const exponent = 15 - Math.ceil(Math.log2(Math.sqrt(columns))) - 1;
  let state = 1;
  const bits = Uint16Array.from({ length: period }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 31) << 15) | (exponent << 10) | ((state >>> 12) & 0x3ff);
  });
  const data = new Uint16Array(rows * columns);
  for (let at = 0; at < data.length; at += period) data.set(bits.subarray(0, data.length - at), at);
  return { format: 'f16', rows, columns, data };
}
