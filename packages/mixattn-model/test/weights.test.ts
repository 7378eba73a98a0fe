import { readFileSync } from 'node:fs';
import { InvalidModelError } from '@ensample/tensor';
import { describe, expect, it } from 'vitest';
import { parseConfig, type ModelConfig } from '../src/config.ts';
import { concatRows, interleaveRows, type HostMatrix } from '../src/host-matrix.ts';
import { openSafetensors } from '../src/safetensors.ts';
import { expectedShapes } from '../src/weight-names.ts';
import { openWeights, type WeightReader } from '../src/weights.ts';
import { bytesSource, packTensors, type TestTensor } from '@ensample/testing';

const config: ModelConfig = {
  ...{
    architecture: 'test',
    vocabSize: 6,
    hiddenSize: 32,
    heads: 2,
    kvHeads: 1,
    headDim: 32,
    intermediateSize: 64,
  },
  ...{ normEps: 1e-5, ropeTheta: 10000, contextLength: 16, tieEmbeddings: false, eosTokenIds: [] },
  layers: [
    { kind: 'full', kvSource: 0 },
    { kind: 'full', kvSource: 0 },
  ],
};
const int8: ModelConfig = { ...config, quantization: { bits: 8, groupSize: 32 } };

const ARRAYS = { F32: Float32Array, F16: Uint16Array, BF16: Uint16Array, I8: Int8Array };

/** All tensors of `config`; element i of each is i, as the dtype's bits. */
function checkpoint(dtype: keyof typeof ARRAYS): Record<string, TestTensor> {
  const tensors: Record<string, TestTensor> = {};
  const put = (name: string, type: keyof typeof ARRAYS, shape: readonly number[]): void => {
    const length = shape.reduce((product, size) => product * size, 1);
    const data = new ARRAYS[type](Array.from({ length }, (_, i) => i % 100));
    tensors[name] = { dtype: type, shape: [...shape], data };
  };
  for (const [name, shape] of expectedShapes(config)) {
    put(`${name}.weight`, dtype === 'I8' && shape.length === 1 ? 'F16' : dtype, shape);
    const [rows = 0, columns = 0] = shape;
    if (dtype === 'I8' && columns > 0) put(`${name}.weight_scale`, 'F16', [rows, columns / 32]);
  }
  return tensors;
}

async function open(tensors: Record<string, TestTensor>, with_ = config): Promise<WeightReader> {
  return openWeights(with_, await openSafetensors(bytesSource(packTensors(tensors)), 'm.safetensors'));
}

describe('openWeights', () => {
  it('gives a layer that owns its KV fused q, k, v and gate, up', async () => {
    const layer = await (await open(checkpoint('F32'))).layer(0);
    expect(layer.qkv).toMatchObject({ format: 'f32', rows: 128, columns: 32 });
    expect([0, 1, 64 * 32 + 1, 96 * 32 + 2].map((i) => layer.qkv.data[i])).toEqual([0, 1, 1, 2]);
    expect(layer.gateUp).toMatchObject({ rows: 128, columns: 32 });
    // Both hold the same numbers, so every row comes twice.
    expect([0, 32, 64, 96].map((i) => layer.gateUp.data[i])).toEqual([0, 0, 32, 32]);
    expect(layer.output).toMatchObject({ rows: 32, columns: 64 });
    expect(layer.down).toMatchObject({ rows: 32, columns: 64 });
    expect(layer.inputNorm).toHaveLength(32);
  });

  it('gives a layer that reuses KV the query rows alone', async () => {
    const layer = await (await open(checkpoint('F32'))).layer(1);
    expect(layer.qkv).toMatchObject({ rows: 64, columns: 32 });
  });

  it('keeps f16 as bits, widens bf16, and widens norms', async () => {
    const half = checkpoint('F16');
    half['model.norm.weight'] = {
      dtype: 'F16',
      shape: [32],
      data: Uint16Array.from({ length: 32 }, (_, i) => [0x3c00, 0xc000, 0x0001, 0x7bff][i % 4] ?? 0),
    };
    const reader = await open(half);
    expect(await reader.embedding()).toMatchObject({ format: 'f16', rows: 6, columns: 32 });
    expect([...(await reader.finalNorm()).subarray(0, 4)]).toEqual([1, -2, 2 ** -24, 65504]);
    const brain = checkpoint('BF16');
    brain['lm_head.weight'] = { dtype: 'BF16', shape: [6, 32], data: new Uint16Array(192).fill(0xc049) };
    const head = await (await open(brain)).head();
    expect(head).toMatchObject({ format: 'f32', rows: 6, columns: 32 });
    expect(head?.data[191]).toBe(-3.140625);
  });

  it('reads int8 with its scales', async () => {
    const layer = await (await open(checkpoint('I8'), int8)).layer(0);
    if (layer.qkv.format !== 'int8') throw new Error(layer.qkv.format);
    expect(layer.qkv.data).toHaveLength(128 * 32);
    // Of a head of 32 rows, of which the second half takes turns with the first; keys begin at row 64, values are as they were.
    expect([...layer.qkv.scales.subarray(60, 68)]).toEqual([46, 62, 47, 63, 0, 16, 1, 17]);
    expect([...layer.qkv.scales.subarray(96, 99)]).toEqual([0, 1, 2]);
  });

  it.each(['js-22m', 'js-1m-draft'])('reads all of %s', async (name) => {
    const read = (file: string): Buffer =>
      readFileSync(new URL(`../../model-js/models/${name}/${file}`, import.meta.url));
    const config = parseConfig(JSON.parse(read('config.json').toString()));
    const bytes = new Uint8Array(read('model.safetensors'));
    const reader = openWeights(config, await openSafetensors(bytesSource(bytes), name));
    expect(await reader.embedding()).toMatchObject({
      format: 'int8',
      rows: 8192,
      columns: config.hiddenSize,
    });
    expect(await reader.head()).toBeUndefined();
    for (const [i, { kvSource }] of config.layers.entries()) {
      const { qkv } = await reader.layer(i);
      expect(qkv.rows).toBe((config.heads + (kvSource === i ? 2 * config.kvHeads : 0)) * config.headDim);
    }
    expect((await reader.finalNorm()).every((value) => value > 0 && value < 100)).toBe(true);
  });

  const changed = (
    tensors: Record<string, TestTensor>,
    name: string,
    tensor?: Partial<TestTensor>,
  ): typeof tensors => {
    const { [name]: old, ...rest } = tensors;
    return tensor
      ? { ...rest, [name]: { dtype: 'F32', shape: [2], data: new Float32Array(2), ...old, ...tensor } }
      : rest;
  };
  const gate = 'model.layers.1.mlp.gate_proj.weight';
  const key = 'model.layers.1.self_attn.k_proj.weight';
  const refused: [string, Record<string, TestTensor>, string][] = [
    [
      'a missing tensor',
      changed(checkpoint('F32'), gate),
      `tensor ${gate} is missing; the config asks for it with [64, 32]`,
    ],
    [
      'a wrong shape',
      changed(checkpoint('F32'), gate, { shape: [32, 64] }),
      `tensor ${gate} is [32, 64], the config asks for [64, 32]`,
    ],
    [
      'an unsupported dtype',
      changed(checkpoint('F32'), gate, { dtype: 'I32' }),
      `tensor ${gate} is I32; supported here: F32, F16, BF16`,
    ],
    [
      'int8 the config does not name',
      checkpoint('I8'),
      'model.embed_tokens.weight is I8; supported here: F32, F16, BF16',
    ],
    [
      'keys of a layer that reuses KV',
      changed(checkpoint('F32'), key, {}),
      `tensor ${key} is not used, since layer 1 reuses the KV of layer 0`,
    ],
    [
      'tensors of another architecture',
      Object.fromEntries(
        Object.entries(checkpoint('F32')).flatMap(([n, t]) => [
          [n, t],
          [`a.${n}`, t],
        ]),
      ),
      'a.model.embed_tokens.weight, a.model.layers.0.input_layernorm.weight, a.model.layers.0.self_attn.q_proj.weight, a.model.layers.0.self_attn.k_proj.weight, a.model.layers.0.self_attn.v_proj.weight and 14 more',
    ],
  ];
  it.each(refused)('refuses %s before reading data', async (_, tensors, message) => {
    await expect(open(tensors)).rejects.toThrow(InvalidModelError);
    await expect(open(tensors)).rejects.toThrow(message);
  });

  it('refuses int8 without scales', async () => {
    const name = 'lm_head.weight_scale';
    await expect(open(changed(checkpoint('I8'), name), int8)).rejects.toThrow(`tensor ${name} is missing`);
  });

  it('ignores the rotary table of old checkpoints', async () => {
    await open(changed(checkpoint('F32'), 'model.layers.0.self_attn.rotary_emb.inv_freq', {}));
  });

  const notFinite: [keyof typeof ARRAYS, string, number][] = [
    ['F32', 'model.layers.0.mlp.up_proj.weight', NaN],
    ['F32', 'model.layers.0.mlp.down_proj.weight', -Infinity],
    ['F16', 'model.layers.0.self_attn.v_proj.weight', 0x7c00],
    ['F16', 'model.layers.0.input_layernorm.weight', 0xfe01],
    ['BF16', 'model.layers.0.self_attn.q_proj.weight', 0x7fc0],
    ['I8', 'model.layers.0.self_attn.o_proj.weight_scale', 0xfc00],
  ];
  it.each(notFinite)('refuses NaN or infinity in %s %s', async (dtype, name, bits) => {
    const tensors = checkpoint(dtype);
    (tensors[name]?.data as Float32Array)[7] = bits;
    const layer = (await open(tensors, dtype === 'I8' ? int8 : config)).layer(0);
    await expect(layer).rejects.toThrow(InvalidModelError);
    await expect(layer).rejects.toThrow(`tensor ${name} holds NaN or infinity (first at element 7)`);
  });
});

describe('concatRows', () => {
  it('refuses different widths and formats', () => {
    const a = { format: 'f32', rows: 1, columns: 2, data: new Float32Array(2) } as const;
    const b = { format: 'f16', rows: 1, columns: 2, data: new Uint16Array(2) } as const;
    expect(() => concatRows([a, b])).toThrow('got f32 [1, 2] and f16 [1, 2]');
    expect(() => concatRows([a, { ...a, columns: 4 }])).toThrow('got f32 [1, 2] and f32 [1, 4]');
  });
});

describe('interleaveRows', () => {
  it('takes a row of each in turn, and its scales', () => {
    const matrix = (first: number): HostMatrix => ({
      ...{ format: 'int8', rows: 2, columns: 32 },
      data: Int8Array.from({ length: 64 }, (_, i) => first + Math.floor(i / 32)),
      scales: Uint16Array.of(10 * first, 10 * first + 1),
    });
    const both = interleaveRows([matrix(1), matrix(5)]);
    if (both.format !== 'int8') throw new Error(both.format);
    expect(both).toMatchObject({ rows: 4, columns: 32 });
    expect([0, 31, 32, 63, 64, 96, 127].map((i) => both.data[i])).toEqual([1, 1, 5, 5, 2, 6, 6]);
    expect([...both.scales]).toEqual([10, 50, 11, 51]);
  });

  it('refuses matrices of different heights', () => {
    const a = { format: 'f32', rows: 1, columns: 2, data: new Float32Array(2) } as const;
    const b = { ...a, rows: 2, data: new Float32Array(4) };
    expect(() => interleaveRows([a, b])).toThrow('got f32 [1, 2] and f32 [2, 2]');
  });
});
