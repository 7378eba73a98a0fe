import { readFileSync } from 'node:fs';
import { InvalidModelError } from '@ensample/tensor';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../src/config.ts';
import { formatLayerMap } from '../src/layer-map.ts';

const llama = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: 100,
  hidden_size: 128,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 256,
  hidden_act: 'silu',
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  max_position_embeddings: 64,
  tie_word_embeddings: true,
  eos_token_id: 0,
};
const mixed = {
  ...llama,
  model_type: 'mixattention',
  sliding_window: 16,
  layer_types: ['sliding_attention', 'sliding_attention', 'full_attention'],
  kv_source: [0, 0, 2],
};

describe('parseConfig', () => {
  it('reads js-22m: windows, KV owners, int8', () => {
    const file = new URL('../../model-js/models/js-22m/config.json', import.meta.url);
    const config = parseConfig(JSON.parse(readFileSync(file, 'utf8')));
    const { layers, ...rest } = config;
    expect(rest).toEqual({
      architecture: 'MixAttentionForCausalLM',
      vocabSize: 8192,
      hiddenSize: 384,
      heads: 6,
      kvHeads: 2,
      headDim: 64,
      intermediateSize: 1024,
      normEps: 1e-5,
      ropeTheta: 10000,
      contextLength: 2048,
      tieEmbeddings: true,
      eosTokenIds: [0],
      quantization: { bits: 8, groupSize: 32 },
    });
    expect(layers.map((layer) => layer.kvSource)).toEqual([0, 0, 2, 2, 2, 5, 6, 6, 8, 8, 8, 5]);
    expect(layers[4]).toEqual({ kind: 'sliding', window: 256, kvSource: 2 });
    expect(layers[11]).toEqual({ kind: 'full', kvSource: 5 });
  });

  it('gives a plain Llama full layers that own their KV, and the defaults of the field', () => {
    const { rope_theta: _, num_key_value_heads: __, tie_word_embeddings: ___, ...sparse } = llama;
    const config = parseConfig({ ...sparse, eos_token_id: null });
    expect(config).toMatchObject({
      headDim: 32,
      kvHeads: 4,
      ropeTheta: 10000,
      tieEmbeddings: false,
      eosTokenIds: [],
    });
    expect(config.layers).toEqual([0, 1, 2].map((kvSource) => ({ kind: 'full', kvSource })));
    expect(config.quantization).toBeUndefined();
  });

  it('reads both forms of rope_theta and of eos_token_id', () => {
    const config = parseConfig({ ...llama, rope_parameters: { rope_theta: 5e5 }, eos_token_id: [1, 2] });
    expect(config).toMatchObject({ ropeTheta: 5e5, eosTokenIds: [1, 2] });
  });

  it('takes attention maps in the forms of the field', () => {
    const kinds = (keys: object) => formatLayerMap(parseConfig({ ...llama, ...keys }).layers);
    expect(kinds({ ...mixed, kv_source: null })).toBe('0s 1s 2');
    expect(kinds({ sliding_window: 16, sliding_window_pattern: 2 })).toBe('0s 1 2s');
    expect(kinds({ sliding_window: 16, sliding_window_pattern: 2, num_kv_shared_layers: 1 })).toBe('0s 1 0s');
    expect(kinds({ sliding_window: 16, use_sliding_window: true, max_window_layers: 1 })).toBe('0 1s 2s');
    const overrides = { reuse: { attn_config: { reuse_kv_layer_idx: -1 } } };
    const order = [{ name: 'default' }, { name: 'reuse', repeat: 2 }];
    expect(kinds({ block_overrides: { order, overrides } })).toBe('0 0 0');
  });

  it.each(['gemma3_text', 'gemma3n_text', 'qwen2', 'mpt'])(
    'does not take %s for its blocks',
    (model_type) => {
      expect(() => parseConfig({ ...mixed, model_type })).toThrow('supported are llama and mixattention');
    },
  );

  const refused: [string, unknown, string][] = [
    ['an array', [], 'config.json: the content is []; expected a JSON object.'],
    [
      'another architecture',
      { ...llama, model_type: 'bert' },
      'model_type is "bert"; supported are llama and mixattention',
    ],
    ['no architecture', { ...llama, model_type: undefined }, 'model_type is missing; expected a string'],
    [
      'a missing size',
      { ...llama, hidden_size: undefined },
      'hidden_size is missing; expected an integer from 4',
    ],
    ['a fraction', { ...llama, vocab_size: 1.5 }, 'vocab_size is 1.5; expected an integer from 1'],
    ['a string', { ...llama, intermediate_size: '256' }, 'intermediate_size is "256"; expected an integer'],
    [
      'an absurd count',
      { ...llama, num_hidden_layers: 1e9 },
      'num_hidden_layers is 1000000000; expected an integer',
    ],
    ['odd columns', { ...llama, hidden_size: 129 }, 'hidden_size is 129; expected a multiple of 4'],
    ['uneven heads', { ...llama, num_key_value_heads: 3 }, 'num_key_value_heads is 3; it must divide'],
    ['a small head', { ...llama, head_dim: 16 }, 'head_dim is 16; expected an integer from 32 to 256'],
    ['an odd head', { ...llama, head_dim: 33 }, 'head_dim is 33; expected a multiple of 4'],
    [
      'no head size',
      { ...llama, num_attention_heads: 6 },
      'head_dim is missing; without it num_attention_heads (6)',
    ],
    ['eps 0', { ...llama, rms_norm_eps: 0 }, 'rms_norm_eps is 0; expected a number from 1e-12 to 0.1'],
    ['biases', { ...llama, attention_bias: true }, 'attention_bias is true; projections with biases'],
    ['MLP biases', { ...llama, mlp_bias: true }, 'mlp_bias is true; projections with biases'],
    ['another activation', { ...llama, hidden_act: 'gelu' }, 'hidden_act is "gelu"; only silu'],
    ['scaled RoPE', { ...llama, rope_scaling: { factor: 2 } }, 'rope_scaling is {"factor":2}; scaled rotary'],
    [
      'a rope type',
      { ...llama, rope_parameters: { rope_type: 'yarn' } },
      'rope_parameters.rope_type is "yarn"; scaled',
    ],
    [
      'an end token',
      { ...llama, eos_token_id: [0, 100] },
      'eos_token_id is [0,100]; expected token ids below',
    ],
    ['windows nowhere', { ...llama, sliding_window: 16 }, 'layer_types is missing; with sliding_window'],
    [
      'no window',
      { ...mixed, sliding_window: null },
      'sliding_window is missing; expected an integer from 1',
    ],
    [
      'too few types',
      { ...mixed, layer_types: ['full_attention'] },
      'it has 1 entries, num_hidden_layers is 3',
    ],
    [
      'a type',
      { ...mixed, layer_types: ['toString', 'b', 'c'] },
      'entry 0 must be full_attention or sliding_attention',
    ],
    ['too many owners', { ...mixed, kv_source: [0, 0, 0, 0] }, 'kv_source is [0,0,0,0]; it has 4 entries'],
    [
      'a later owner',
      { ...mixed, kv_source: [1, 1, 2] },
      'config.json (layer_types, sliding_window, kv_source): layer 0 reads the KV of layer 1, which comes later: the nearest that works is its own (0).',
    ],
    [
      'a reused owner',
      { ...llama, kv_source: [0, 0, 1] },
      'layer 2 reads the KV of layer 1, which itself reads',
    ],
    ['an owner by name', { ...llama, kv_source: [0, '0', 1] }, 'layer 1 reads the KV of layer "0"'],
    [
      'an owner of another kind',
      { ...mixed, kv_source: [0, 1, 1] },
      'layer 2 reads the KV of layer 1, which is sliding (window 16) while it is full',
    ],
    [
      '4 bits',
      { ...llama, quantization_config: { quant_method: 'awq' } },
      'quantization_config.quant_method is "awq"',
    ],
  ];
  it.each(refused)('refuses %s', (_, json, message) => {
    expect(() => parseConfig(json)).toThrow(InvalidModelError);
    expect(() => parseConfig(json)).toThrow(message);
  });
});
