import { attentionVariant } from '@ensample/bifurcated-attn';
import { productVariant, type Device } from '@ensample/tensor';
import type { ModelConfig } from './config.ts';
import type { SafetensorsFile } from './safetensors.ts';
import { EMBEDDING, HEAD, layerName } from './weight-names.ts';
import { storedFormat } from './weights.ts';

/** Names of the kernels that a step of a model runs, with their tiles' sizes: of its first layer, and of its output matrix. */
export interface ChosenKernels {
  readonly qkv: string;
  readonly output: string;
  readonly gateUp: string;
  readonly down: string;
  readonly head: string;
  readonly attention: string;
}

/** What would be recorded on this device for steps of `rows` rows, with weights as a file stores them. Nothing is loaded. */
export function chosenKernels(
  device: Device,
  config: ModelConfig,
  file: SafetensorsFile,
  rows: number,
): ChosenKernels {
  const { hiddenSize, intermediateSize, vocabSize, heads, kvHeads, headDim, tieEmbeddings } = config;
  const product = (name: string, outputs: number, columns: number) =>
    productVariant(device, rows, { format: storedFormat(file, name), rows: outputs, columns });
  const cache = { device, dtype: device.tier.kv, layout: { headDim, kvHeads } };
  return {
    qkv: product(layerName(0, 'query'), (heads + 2 * kvHeads) * headDim, hiddenSize),
    output: product(layerName(0, 'output'), hiddenSize, heads * headDim),
    gateUp: product(layerName(0, 'gate'), 2 * intermediateSize, hiddenSize),
    down: product(layerName(0, 'down'), hiddenSize, intermediateSize),
    head: product(tieEmbeddings ? EMBEDDING : HEAD, vocabSize, hiddenSize),
    attention: attentionVariant(cache, (rows * heads) / kvHeads),
  };
}
