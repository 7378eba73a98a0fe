import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { InvalidModelError, type Device } from '@ensample/tensor';
import {
  bytesSource,
  expectNoErrors,
  expectNothingAllocated,
  packTensors,
  testDevice,
  tinyModel,
  type TestTensor,
} from '@ensample/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { modelSource, type LoadProgress, type ModelFiles } from '../src/index.ts';
import { packaged } from './golden.ts';

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterEach(async () => {
  await expectNoErrors(device);
  expectNothingAllocated(device);
});
afterAll(() => device.destroy());

const read = (file: string): unknown => JSON.parse(readFileSync(join(packaged('js-1m-draft'), file), 'utf8'));

interface Parts {
  config: Record<string, unknown>;
  tensors: Record<string, TestTensor>;
  weights: Uint8Array<ArrayBuffer> | undefined;
}

/** The tiny model's files, with something wrong. */
function files(damage: (parts: Parts) => void): { files: ModelFiles; closed: () => number } {
  const { configJson, tensors } = tinyModel();
  const parts: Parts = { config: { ...configJson }, tensors: { ...tensors }, weights: undefined };
  damage(parts);
  const source = bytesSource(parts.weights ?? packTensors(parts.tensors));
  let closed = 0;
  const close = () => {
    closed++;
    return Promise.resolve();
  };
  return {
    closed: () => closed,
    files: {
      name: 'tiny',
      json: (file) => Promise.resolve(file === 'config.json' ? parts.config : read(file)),
      bytes: () => Promise.resolve({ ...source, close }),
    },
  };
}

const last = 'model.layers.3.mlp.down_proj.weight';

/** What is wrong, and what the error must say. */
const damages: [string, (parts: Parts) => void, RegExp][] = [
  [
    'a truncated file',
    (p) => (p.weights = packTensors(p.tensors).subarray(0, -100) as typeof p.weights),
    /tiny/,
  ],
  ['bytes after the end', (p) => (p.weights = longer(packTensors(p.tensors))), /tiny/],
  ['another vocabulary', (p) => (p.config['vocab_size'] = 128), /embed_tokens.*\[96, 64\].*\[128, 64\]/],
  ['more heads', (p) => (p.config['num_attention_heads'] = 8), /q_proj/],
  ['another KV map', (p) => (p.config['kv_source'] = [0, 1, 2, 1]), /model\.layers\.2\.self_attn\.k_proj/],
  ['reuse where there is KV', (p) => (p.config['kv_source'] = [0, 0, 0, 0]), /kv_source/],
  ['NaN in the last layer', (p) => spoil(p.tensors, last, NaN), /model\.layers\.3\.mlp\.down_proj.*NaN/],
  [
    'infinity in the last norm',
    (p) => spoil(p.tensors, 'model.norm.weight', Infinity),
    /model\.norm.*infinity/,
  ],
  ['a missing tensor', (p) => void Reflect.deleteProperty(p.tensors, last), /down_proj\.weight is missing/],
  ['no head where it is not tied', (p) => (p.config['tie_word_embeddings'] = false), /lm_head/],
];

function longer(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const file = new Uint8Array(bytes.length + 4);
  file.set(bytes);
  return file;
}

function spoil(tensors: Record<string, TestTensor>, name: string, value: number): void {
  const data = Float32Array.from(tensors[name]!.data as Float32Array);
  data[17] = value;
  tensors[name] = { ...tensors[name]!, data };
}

describe('modelSource', () => {
  test.each(damages)('refuses %s and leaves nothing on the device', async (_, damage, message) => {
    const { files: damaged, closed } = files(damage);
    const loading = modelSource('tiny', damaged).load(device);
    await expect(loading).rejects.toThrow(InvalidModelError);
    await expect(loading).rejects.toThrow(message);
    expect(closed()).toBeLessThanOrEqual(1);
  });

  test('loads, reports each layer, closes its file and frees what it made', async () => {
    const progress: LoadProgress[] = [];
    const { files: good, closed } = files(() => undefined);
    const { model, tokenizer } = await modelSource('tiny', good).load(device, {
      onProgress: (event) => progress.push(event),
    });
    expect(progress).toEqual(
      [1, 2, 3, 4].map((layer) => ({ status: 'upload', name: 'tiny', layer, layers: 4 })),
    );
    expect(closed()).toBe(1);
    expect(tokenizer.decode(tokenizer.encode('const a = 1;'))).toBe('const a = 1;');
    expect(device.memory.bytes).toBeGreaterThan(4 * 96 * 64);
    model.destroy();
  });

  test('a signal ends loading, and nothing stays', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const loading = modelSource('tiny', files(() => undefined).files).load(device, {
      signal: controller.signal,
      onProgress: (event) => event.status === 'upload' && event.layer === 2 && controller.abort(reason),
    });
    await expect(loading).rejects.toBe(reason);
  });
});
