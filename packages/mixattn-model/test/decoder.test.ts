import { Attention } from '@ensample/bifurcated-attn';
import { KvCache } from '@ensample/kv-cache';
import { Device, Recorder, tiers, type GpuTensor } from '@ensample/tensor';
import {
  decoderReference,
  DecoderRun,
  eachTier,
  expectClose,
  readValues,
  scope,
  seeded,
  slowlyCompiled,
  testAdapter,
  tinyFiles,
  tinyModel,
  tolerance,
  uploadBatch,
  type TinyModel,
  type TinyModelOptions,
} from '@ensample/testing';
import { describe, expect, test, vi } from 'vitest';
import { Decoder, openSafetensors, openWeights } from '../src/index.ts';

// Compiling a tier's kernels for the first time takes lavapipe up to a minute.
vi.setConfig({ testTimeout: 240_000 });

/** Layer maps in small: windows and full layers, owners and layers that reuse an earlier one's KV. */
const maps = {
  'no reuse': '0 1 2 3',
  'windows only': '0s 0s 2s 2s',
  'MA-Offset': '0s 1 0s 1',
  'MA-Pairs': '0 1s 1s 0',
} as const;

const window = 16;
const pageTokens = 4;
const ids = tokens(40);

function tokens(count: number): number[] {
  const random = seeded(5);
  return Array.from({ length: count }, () => random.integer(96));
}

async function decoder(device: Device, { config, ...model }: TinyModel): Promise<Decoder> {
  const file = await openSafetensors(await tinyFiles({ ...model }).bytes('model.safetensors'), 'tiny');
  return Decoder.load(device, config, openWeights(config, file));
}

/** Logits of all ids, which one sequence takes in pieces of these sizes. */
async function logits(device: Device, model: TinyModel, pieces: readonly number[]): Promise<Float32Array> {
  const loaded = await decoder(device, model);
  const run = new DecoderRun(device, loaded, { pageTokens, draftLimit: 4 });
  try {
    const sequence = run.cache.sequence();
    const rows: number[] = [];
    let at = 0;
    for (const size of pieces) {
      const [piece] = await run.step([{ sequence, tokens: ids.slice(at, at + size) }]);
      rows.push(...piece!);
      at += size;
    }
    expect(at).toBe(ids.length);
    sequence.release();
    expect(run.cache.memory.used).toBe(0);
    return Float32Array.from(rows);
  } finally {
    run.destroy();
    loaded.destroy();
  }
}

await eachTier((device, tier) => {
  // Workgroups with barriers are slow on software drivers: one map and few steps are enough to show their kernels.
  const brief = tier !== 'software';
  const close = () => (device().tier.kv === 'f16' ? tolerance.f16Layers : tolerance.f32);
  const whole = [ids.length];
  const against = async (options: TinyModelOptions) => {
    const model = tinyModel({ window, ...options });
    const expected = decoderReference(model.config, model.values, ids);
    expectClose(await logits(device(), model, whole), expected, close());
  };

  describe.each(brief ? [['MA-Offset', maps['MA-Offset']]] : Object.entries(maps))('%s', (_, layers) => {
    test('logits equal the reference', async () => {
      await against({ layers });
    });

    const pieces = brief ? [[24, 9, 7]] : [ids.map(() => 1), [7, 1, 16, 13, 3]];
    test.each(pieces.map((sizes) => [sizes.slice(0, 5).join(', '), sizes] as const))(
      'pieces of %s … equal one step',
      async (_name, sizes) => {
        const model = tinyModel({ window, layers });
        expectClose(await logits(device(), model, sizes), await logits(device(), model, whole), close());
      },
    );
  });

  test.runIf(!brief)(
    'without logits: the same keys and values, and nothing after the last of them',
    async () => {
      const model = tinyModel({ window, layers: maps['MA-Offset'] });
      const loaded = await decoder(device(), model);
      const { heads, vocabSize } = model.config;
      const { own, destroy } = scope();
      const batch = own(
        uploadBatch(
          device(),
          ids.map((token, position) => ({ token, position })),
          ids.length,
        ),
      );
      const activations = own(loaded.activations(ids.length));
      const logits = own(device().tensor('f32', [ids.length, vocabSize]));
      const names: string[][] = [];
      const stored: Float32Array[][] = [];
      for (const asked of [{ logits }, {}]) {
        const cache = own(new KvCache(device(), loaded.layout, { pageTokens }));
        const sequence = cache.sequence();
        sequence.reserve(ids.length);
        const attention = own(new Attention(cache, { heads }));
        attention.update([{ sequence, rows: ids.length }]);
        const recorder = new Recorder(device());
        loaded.forward(recorder, { batch, attention, activations, rows: ids.length, ...asked });
        const recording = await recorder.finish();
        recording.submit();
        names.push(recording.names);
        const buffers = cache.pools.flatMap(({ slabs }) => slabs.flatMap((slab) => slab.buffers));
        stored.push(
          await Promise.all(buffers.map((buffer) => readValues(device(), buffer as GpuTensor<'f32'>))),
        );
      }
      const count = (list: string[], name: string) => list.filter((other) => other === name).length;
      expect(names.map((list) => [count(list, 'attend'), count(list, 'rope_append')])).toEqual([
        [4, 2],
        [1, 2],
      ]);
      expect(names[1]!.at(-1)).toBe('rope_append');
      expect(stored[1]).toEqual(stored[0]);
      expect(
        stored[0]!.flatMap((values) => [...values]).filter((value) => value !== 0).length,
      ).toBeGreaterThan(1000);
      destroy();
      loaded.destroy();
    },
  );

  if (!brief) test.each([1, 4] as const)('%i key/value heads of 4', (kvHeads) => against({ kvHeads }));

  test('an output matrix of its own', () => against({ tied: false }));

  test.runIf(tier === 'f16')('operands of products in f16, as tier matrix has them', async () => {
    const adapter = await testAdapter();
    const requiredFeatures = [...tiers.f16.features] as GPUFeatureName[];
    const gpu = await adapter.requestDevice({ requiredFeatures });
    const narrow = new Device(gpu, { ...tiers.f16, operands: 'f16' }, adapter.info);
    const model = tinyModel({ window, layers: maps['MA-Offset'] });
    const expected = decoderReference(model.config, model.values, ids);
    expectClose(await logits(narrow, model, [24, 9, 7]), expected, tolerance.f16Layers);
    narrow.destroy();
  });

  test.each(['f16', 'int8', 'int4'] as const)('%s weights equal the same values in f32', async (weights) => {
    const [narrow, wide] = [false, true].map((widened) => tinyModel({ window, weights, widened }));
    expect(narrow!.values).toEqual(wide!.values);
    const expected = await logits(device(), wide!, whole);
    expectClose(await logits(device(), narrow!, whole), expected, close());
    expectClose(expected, decoderReference(wide!.config, wide!.values, ids), close());
  });
}, slowlyCompiled);
