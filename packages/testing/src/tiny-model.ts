import { parseConfig, type ModelConfig, type ModelFiles } from '@ensample/mixattn-model';
import { fromHalf, toHalf } from './half.ts';
import { seeded, type Random } from './random.ts';
import { packInt4 } from './weights.ts';
import { bytesSource, packTensors, type TestTensor } from './safetensors.ts';

/** With int4 the embedding and the output matrix are int8. */
type Precision = 'f32' | 'f16' | 'int8' | 'int4';

/** What a {@link tinyModel} is made of. */
export interface TinyModelOptions {
  /** For each layer the owner of its KV, with `s` where it sees a window. Default `'0s 1 0s 1'`. */
  readonly layers?: string;
  /** Default 16. */
  readonly window?: number;
  /** Key/value heads for the query heads, which are 4 by default. Default 2. */
  readonly kvHeads?: number;
  /** Precision of the weights. Default f32. */
  readonly weights?: Precision;
  /** Store those values as f32. Default false. */
  readonly widened?: boolean;
  /** The output matrix is the embedding. Default true. */
  readonly tied?: boolean;
  readonly contextLength?: number;
  /** Default: hidden 64, intermediate 96, vocabulary 96, 4 heads of size 32. */
  readonly sizes?: Partial<TinySizes>;
  readonly seed?: number;
}

/** Widths of a {@link tinyModel}. */
export interface TinySizes {
  readonly hidden: number;
  readonly intermediate: number;
  readonly vocab: number;
  readonly heads: number;
  readonly headDim: number;
}

/** A random model as files, and the values that its weights stand for. */
export interface TinyModel {
  readonly configJson: Record<string, unknown>;
  readonly config: ModelConfig;
  readonly tensors: Record<string, TestTensor>;
  /** By tensor name. */
  readonly values: ReadonlyMap<string, Float32Array<ArrayBuffer>>;
}

const dtypes = { f16: 'F16', int8: 'I8', int4: 'U8' } as const;

const tinySizes: TinySizes = { hidden: 64, intermediate: 96, vocab: 96, heads: 4, headDim: 32 };

/** A random decoder of four layers (by default hidden 64, head size 32, vocabulary 96): small enough for thousands of steps. */
export function tinyModel(options: TinyModelOptions = {}): TinyModel {
  const { weights = 'f32', widened = false, tied = true, seed = 1 } = options;
  const configJson = tinyConfig(options);
  const random = seeded(seed);
  const tensors: Record<string, TestTensor> = {};
  const values = new Map<string, Float32Array<ArrayBuffer>>();
  for (const [name, shape] of shapes(options, configJson['kv_source'] as number[], tied)) {
    const exact = shape.length === 1 ? norm(random, shape[0] ?? 0) : matrix(random, shape[1] ?? 1, shape);
    const table = name.startsWith('model.embed') || name.startsWith('lm_head');
    const format = shape.length === 1 ? 'f32' : table && weights === 'int4' ? 'int8' : weights;
    const stored = quantise(exact, format);
    const [rows = 0, columns = 0] = shape;
    values.set(name, stored.values);
    if (widened || format === 'f32') tensors[name] = { dtype: 'F32', shape, data: stored.values };
    else {
      const packed = format === 'int4' ? [rows, columns / 2] : shape;
      tensors[name] = { dtype: dtypes[format], shape: packed, data: stored.data };
    }
    if (!widened && stored.scales) {
      tensors[`${name}_scale`] = { dtype: 'F16', shape: [rows, columns / 32], data: stored.scales };
    }
  }
  return { configJson, config: parseConfig(configJson), tensors, values };
}

function tinyConfig(options: TinyModelOptions): Record<string, unknown> {
  const { layers = '0s 1 0s 1', window = 16, kvHeads = 2, tied = true, contextLength = 512 } = options;
  const sizes = { ...tinySizes, ...options.sizes };
  const map = layers.split(' ');
  const bits = options.widened
    ? undefined
    : { int8: 8, int4: 4, f16: undefined, f32: undefined }[options.weights ?? 'f32'];
  return {
    architectures: ['MixAttentionForCausalLM'],
    model_type: 'mixattention',
    vocab_size: sizes.vocab,
    hidden_size: sizes.hidden,
    num_hidden_layers: map.length,
    num_attention_heads: sizes.heads,
    num_key_value_heads: kvHeads,
    head_dim: sizes.headDim,
    intermediate_size: sizes.intermediate,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    max_position_embeddings: contextLength,
    tie_word_embeddings: tied,
    eos_token_id: 0,
    sliding_window: window,
    layer_types: map.map((layer) => (layer.endsWith('s') ? 'sliding_attention' : 'full_attention')),
    kv_source: map.map((layer) => parseInt(layer)),
    ...(bits ? { quantization_config: { ...groups, quant_method: `group-int${bits}`, bits } } : {}),
  };
}

const groups = { group_size: 32, symmetric: true, scale_dtype: 'float16' };

function shapes(
  { kvHeads = 2, sizes }: TinyModelOptions,
  kvSource: readonly number[],
  tied: boolean,
): [string, number[]][] {
  const { hidden, intermediate, vocab, heads, headDim } = { ...tinySizes, ...sizes };
  const layers = kvSource.flatMap((source, i): [string, number[]][] => {
    const owned: [string, number[]][] = [
      ['self_attn.k_proj', [kvHeads * headDim, hidden]],
      ['self_attn.v_proj', [kvHeads * headDim, hidden]],
    ];
    const parts: [string, number[]][] = [
      ['input_layernorm', [hidden]],
      ['self_attn.q_proj', [heads * headDim, hidden]],
      ...(source === i ? owned : []),
      ['self_attn.o_proj', [hidden, heads * headDim]],
      ['post_attention_layernorm', [hidden]],
      ['mlp.gate_proj', [intermediate, hidden]],
      ['mlp.up_proj', [intermediate, hidden]],
      ['mlp.down_proj', [hidden, intermediate]],
    ];
    return parts.map(([part, shape]) => [`model.layers.${i}.${part}.weight`, shape]);
  });
  const head: [string, number[]][] = tied ? [] : [['lm_head.weight', [vocab, hidden]]];
  return [
    ['model.embed_tokens.weight', [vocab, hidden]],
    ...layers,
    ['model.norm.weight', [hidden]],
    ...head,
  ];
}

function norm(random: Random, length: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length }, () => 0.5 + random.uniform());
}

/** Sums of products stay of order one; no outliers here, since each layer's would multiply. */
function matrix(random: Random, columns: number, shape: readonly number[]): Float32Array<ArrayBuffer> {
  const length = shape.reduce((product, size) => product * size, 1);
  const scale = 3 / Math.sqrt(columns);
  return Float32Array.from({ length }, () => scale * (2 * random.uniform() - 1));
}

interface Stored {
  readonly values: Float32Array<ArrayBuffer>;
  readonly data: ArrayBufferView;
  readonly scales?: Uint16Array;
}

function quantise(exact: Float32Array<ArrayBuffer>, format: Precision): Stored {
  if (format === 'f32') return { values: exact, data: exact };
  if (format === 'f16') {
    const data = Uint16Array.from(exact, toHalf);
    return { values: Float32Array.from(data, fromHalf), data };
  }
  const most = format === 'int8' ? 127 : 7;
  const parts = Array.from({ length: exact.length / 32 }, (_, g) => exact.subarray(32 * g, 32 * g + 32));
  const scales = Uint16Array.from(parts, (group) => toHalf(Math.max(...group.map(Math.abs)) / most));
  const scaleAt = (i: number) => fromHalf(scales[i >> 5] ?? 0);
  const levels = Int8Array.from(exact, (v, i) => Math.max(-most, Math.min(most, Math.round(v / scaleAt(i)))));
  const values = Float32Array.from(levels, (level, i) => level * scaleAt(i));
  return { values, data: format === 'int8' ? levels : packInt4(levels), scales };
}

/** The files of a model; the tokenizer's are left out. */
export function tinyFiles({ configJson, tensors }: Pick<TinyModel, 'configJson' | 'tensors'>): ModelFiles {
  return {
    name: 'tiny',
    json: () => Promise.resolve(configJson),
    bytes: () => Promise.resolve(bytesSource(packTensors(tensors))),
  };
}
