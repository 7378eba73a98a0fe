import { jsonObject, type JsonObject } from './json-object.ts';
import type { LayerConfig } from './layer-map.ts';
import { parseLayers } from './parse-layers.ts';

/** A decoder-only transformer with Llama blocks, as plain data. */
export interface ModelConfig {
  /** `architectures[0]` of config.json, else its `model_type`. */
  architecture: string;
  vocabSize: number;
  hiddenSize: number;
  layers: LayerConfig[];
  /** Query heads; a multiple of `kvHeads`. */
  heads: number;
  kvHeads: number;
  /** A multiple of 4 from 32 to 256. */
  headDim: number;
  intermediateSize: number;
  /** Epsilon of RMSNorm. */
  normEps: number;
  /** Base of the rotary embedding (rotate-half form). */
  ropeTheta: number;
  /** Most positions a sequence may have. */
  contextLength: number;
  /** The output matrix is the embedding. */
  tieEmbeddings: boolean;
  /** Tokens that end a text; may be empty. */
  eosTokenIds: number[];
  /** Absent for f32, f16 and bf16 weights. With 4 bits, single matrices may have 8, as embedding and output matrix should. */
  quantization?: { bits: 4 | 8; groupSize: 32 };
}

const ARCHITECTURES = ['llama', 'mixattention'];

/**
 * Reads a Hugging Face config.json of model_type `llama` or `mixattention`. Sliding windows and KV reuse come from
 * the keys that {@link parseLayers} knows.
 *
 * @throws InvalidModelError naming the key, its value and what is expected
 */
export function parseConfig(json: unknown): ModelConfig {
  const config = jsonObject(json, 'config.json');
  refuseUnsupported(config);
  const vocabSize = config.integer('vocab_size', 1, 2 ** 22);
  const architecture = config.array('architectures')?.[0];
  const quantization = parseQuantization(config);
  return {
    architecture: typeof architecture === 'string' ? architecture : config.string('model_type'),
    vocabSize,
    ...parseSizes(config),
    layers: parseLayers(json),
    normEps: config.number('rms_norm_eps', 1e-12, 0.1),
    ropeTheta: parseRopeTheta(config),
    contextLength: config.integer('max_position_embeddings', 1, 2 ** 24),
    tieEmbeddings: config.boolean('tie_word_embeddings', false),
    eosTokenIds: parseEos(config, vocabSize),
    ...(quantization && { quantization }),
  };
}

function refuseUnsupported(config: JsonObject): void {
  if (!ARCHITECTURES.includes(config.string('model_type'))) {
    config.refuse(
      'model_type',
      `supported are ${ARCHITECTURES.join(' and ')}: choose a model with Llama blocks`,
    );
  }
  if (config.string('hidden_act', 'silu') !== 'silu') config.refuse('hidden_act', 'only silu is supported');
  for (const key of ['attention_bias', 'mlp_bias']) {
    if (config.boolean(key, false))
      config.refuse(key, 'projections with biases are not supported, it must be false');
  }
  if (config.raw('rope_scaling') !== undefined) {
    config.refuse('rope_scaling', 'scaled rotary embeddings are not supported, it must be null');
  }
}

function parseSizes(
  config: JsonObject,
): Pick<ModelConfig, 'hiddenSize' | 'intermediateSize' | 'heads' | 'kvHeads' | 'headDim'> {
  const hiddenSize = config.integer('hidden_size', 4, 65536);
  const intermediateSize = config.integer('intermediate_size', 4, 2 ** 20);
  const multiple = config.raw('quantization_config') === undefined ? 4 : 32;
  if (hiddenSize % multiple) config.refuse('hidden_size', `expected a multiple of ${multiple}`);
  if (intermediateSize % multiple) config.refuse('intermediate_size', `expected a multiple of ${multiple}`);
  const heads = config.integer('num_attention_heads', 1, 1024);
  const kvHeads = config.integer('num_key_value_heads', 1, 1024, heads);
  if (heads % kvHeads) {
    config.refuse('num_key_value_heads', `it must divide num_attention_heads, which is ${heads}`);
  }
  if (config.raw('head_dim') === undefined && hiddenSize % heads) {
    config.refuse(
      'head_dim',
      `without it num_attention_heads (${heads}) must divide hidden_size (${hiddenSize})`,
    );
  }
  const headDim = config.integer('head_dim', 32, 256, hiddenSize / heads);
  if (headDim % 4) config.refuse('head_dim', 'expected a multiple of 4');
  return { hiddenSize, intermediateSize, heads, kvHeads, headDim };
}

function parseRopeTheta(config: JsonObject): number {
  const parameters = config.object('rope_parameters');
  if (!parameters) return config.number('rope_theta', 1, 1e12, 10000);
  const type = parameters.string('rope_type', 'default');
  if (type !== 'default')
    parameters.refuse('rope_type', 'scaled rotary embeddings are not supported, use default');
  return parameters.number('rope_theta', 1, 1e12);
}

function parseEos(config: JsonObject, vocabSize: number): number[] {
  const value = config.raw('eos_token_id') ?? [];
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  const valid = (id: unknown): id is number =>
    Number.isInteger(id) && Number(id) >= 0 && Number(id) < vocabSize;
  return ids.every(valid)
    ? ids
    : config.refuse('eos_token_id', `expected token ids below vocab_size, which is ${vocabSize}`);
}

function parseQuantization(config: JsonObject): ModelConfig['quantization'] {
  const quantization = config.object('quantization_config');
  if (!quantization) return undefined;
  const bits = quantization.raw('bits') === 4 ? 4 : 8;
  const expected = {
    quant_method: `group-int${bits}`,
    bits,
    group_size: 32,
    symmetric: true,
    scale_dtype: 'float16',
  };
  for (const [key, value] of Object.entries(expected)) {
    if (quantization.raw(key) !== value) {
      quantization.refuse(
        key,
        `only ${String(value)} is supported: use such a model, or weights in f16, bf16 or f32`,
      );
    }
  }
  return { bits, groupSize: 32 };
}
