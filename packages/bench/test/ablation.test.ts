import { Decoder, openSafetensors, openWeights } from '@ensample/mixattn-model';
import {
  decoderReference,
  eachTier,
  expectClose,
  expectNoErrors,
  expectNothingAllocated,
  KernelCheck,
  largeGpu,
  nullDevice,
  slowlyCompiled,
  tinyFiles,
  tinyModel,
  tolerance,
} from '@ensample/testing';
import { DecoderRun } from '@ensample/testing/decoder-run';
import { Attention } from '@ensample/bifurcated-attn';
import {
  createBatch,
  tiers,
  type Device,
  type GpuTensor,
  type HostArray,
  type Pass,
  type TierName,
} from '@ensample/tensor';
import { expect, test, vi } from 'vitest';
import { benchAblation } from '../src/ablation/ablation.ts';
import { fillSamples, ownLengths } from '../src/ablation/ragged.ts';
import { recordSteps } from '../src/ablation/verify-step.ts';
import { padding } from '../src/ablation/ways.ts';

// Compiling a tier's kernels for the first time takes lavapipe up to a minute.
vi.setConfig({ testTimeout: 240_000 });

const tiny = tinyModel({ window: 16 });
const { layers, kvHeads, headDim, heads, vocabSize } = tiny.config;
const shape = { prompt: 24, n: 4, own: 48, spread: 3, draft: 3, seed: 1 } as const;
const rows = shape.draft + 1;
const lengths = ownLengths(shape);

async function load(device: Device) {
  const file = await openSafetensors(await tinyFiles(tiny).bytes('model.safetensors'), 'tiny');
  const decoder = await Decoder.load(device, tiny.config, openWeights(tiny.config, file));
  // Attention by subgroup matrices takes whole pages of 32 keys.
  const pageTokens = device.tier.attention === 'matrix' ? 32 : 4;
  const run = new DecoderRun(device, decoder, { pageTokens });
  const destroy = () => [run, decoder].forEach((owned) => owned.destroy());
  return { decoder, run, destroy };
}

/** Writes NaN wherever keys and values will go, so that what reads where nothing was written shows. */
function poison({ run }: { run: DecoderRun }, device: Device): void {
  run.cache.ensure(run.cache.kinds.map(() => 200));
  for (const buffer of run.cache.pools.flatMap((pool) => pool.slabs.flatMap((slab) => slab.buffers))) {
    const count = buffer.byteLength / (buffer.dtype === 'f16' ? 2 : 4);
    device.write(
      buffer,
      buffer.dtype === 'f16' ? new Uint16Array(count).fill(0x7e00) : new Float32Array(count).fill(NaN),
    );
  }
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

/** Keys that a layer which sees all reads, worked out by hand: no tile of 16 query vectors holds a sample's 8 in part. */
function keysOfFullLayer(way: string, prompt: string): number {
  const tilesOfPrompt = prompt === 'shared' ? (shape.n * rows * (heads / kvHeads)) / 16 : shape.n;
  const own = lengths.map((length) => (way === 'BASS-PAD' ? Math.max(...lengths) : length) + rows);
  return tilesOfPrompt * shape.prompt + sum(own);
}

await eachTier((device, tier) => {
  // With subgroups attention runs the plain tier's kernels.
  test.skipIf(tier === 'subgroups')(
    'every way equals the reference, with the dispatches that it claims',
    async () => {
      const { decoder, run, destroy } = await load(device());
      const samples = await fillSamples(run, decoder, shape);
      const steps = await recordSteps({ device: device(), decoder, cache: run.cache, samples });
      const expected = samples.map(({ sequence, tokens }) =>
        decoderReference(tiny.config, tiny.values, tokens).slice(sequence.length * vocabSize),
      );
      const close = run.cache.dtype === 'f16' ? tolerance.f16Layers : tolerance.f32;
      const dispatched = {
        ours: () => 1,
        'BASS-PAD': () => 1,
        'BASS-SPLIT': (shared: boolean) => shape.n + (shared ? 1 : 0),
      };
      for (const { way, reading, recording, logits, places, attention } of steps) {
        recording.submit();
        const found = await device().read(logits);
        places.forEach(({ firstRow }, i) => {
          const own = found.slice(firstRow * vocabSize, (firstRow + rows) * vocabSize);
          expectClose(own, expected[i]!, close);
        });
        const attends = recording.names.filter((name) => name === 'attend');
        expect(attends).toHaveLength(layers.length * dispatched[way](reading === 'shared'));
        expect(attention.length).toBe(attends.length + layers.length);
      }
      for (const step of steps) step.destroy();
      destroy();
    },
  );

  test.skipIf(tier === 'subgroups')(
    'padding is read: NaN in it reaches the result of PAD alone, and nothing is timed',
    async () => {
      const world = await load(device());
      const { decoder, run, destroy } = world;
      poison(world, device());
      const samples = await fillSamples(run, decoder, shape);
      const longest = Math.max(...samples.map(({ sequence }) => sequence.length));
      const steps = await recordSteps({ device: device(), decoder, cache: run.cache, samples });
      // What is narrowed to f16 is clamped, so that NaN becomes a number there: another one than ours.
      const keeps = tiers[tier].operands === 'f32';
      const ours: number[] = [];
      for (const { way, recording, logits, places } of steps) {
        recording.submit();
        const found = await device().read(logits);
        places.forEach(({ firstRow }, i) => {
          const padded = way === 'BASS-PAD' && samples[i]!.sequence.length < longest;
          const logit = found[firstRow * vocabSize]!;
          if (way === 'ours') ours[i] ??= logit;
          expect(keeps ? Number.isNaN(logit) : Math.abs(logit - ours[i]!) > 0.05).toBe(padded);
        });
      }
      for (const step of steps) step.destroy();
      for (const { sequence } of samples) sequence.release();
      poison(world, device());
      const timed = benchAblation(device(), decoder, run, { ...shape, repeats: 1 });
      await expect(timed).rejects.toThrow(`BASS-PAD differs from ours by ${keeps ? 'NaN' : ''}`);
      expect(run.cache.memory.used).toBe(0);
      destroy();
    },
  );

  if (tier !== 'software') return; // workgroups with barriers are slow on software drivers

  test('the table: bytes read, waste, ratios', async () => {
    const { decoder, run, destroy } = await load(device());
    const table = await benchAblation(device(), decoder, run, { ...shape, repeats: 1 });
    expect(table.map(({ prompt, way }) => `${way}, ${prompt}`)).toEqual([
      'ours, shared',
      'BASS-SPLIT, shared',
      'BASS-PAD, shared',
      'ours, per sample',
      'BASS-SPLIT, per sample',
      'BASS-PAD, per sample',
    ]);
    const bytes = 2 * kvHeads * headDim * (run.cache.dtype === 'f16' ? 2 : 4);
    const windowed = shape.n * (15 + rows); // all samples are longer than the window
    for (const { way, prompt, kvBytes, ratio, attentionRatio } of table) {
      expect(kvBytes).toBe(bytes * 2 * (keysOfFullLayer(way, prompt) + windowed));
      if (way === 'ours') expect([ratio, attentionRatio]).toEqual([1, 1]);
    }
    const [shared, perSample] = [0, shape.prompt].map((prompt) =>
      lengths.map((length) => prompt + length + rows),
    );
    expect(table[2]!.padWaste).toBeCloseTo(1 - sum(shared!) / 4 / Math.max(...shared!));
    expect(table[5]!.padWaste).toBeCloseTo(1 - sum(perSample!) / 4 / Math.max(...perSample!));
    expect(run.cache.memory.used).toBe(0);
    destroy();
  });

  test.each([
    [{ own: 1000 }, 'take 1028 positions, the model has 512'],
    [{ n: 0 }, 'n is 0'],
    [{ prompt: 2.5 }, 'prompt is 2.5'],
    [{ spread: 0.5 }, 'spread is 0.5'],
  ])('%o is refused', async (wrong, message) => {
    const { decoder, run, destroy } = await load(device());
    await expect(fillSamples(run, decoder, { ...shape, ...wrong })).rejects.toThrow(message);
    destroy();
  });
}, slowlyCompiled);

/** The null backend reads back garbage: plans are read as they were written. */
function rememberPlans(device: Device): void {
  const written = new Map<GpuTensor, Uint8Array<ArrayBuffer>>();
  const read = device.read.bind(device) as (tensor: GpuTensor) => Promise<HostArray>;
  const write = device.write.bind(device);
  vi.spyOn(device, 'write').mockImplementation((tensor, data, byteOffset = 0) => {
    const bytes = written.get(tensor) ?? new Uint8Array(tensor.byteLength);
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), byteOffset);
    written.set(tensor, bytes);
    write(tensor, data, byteOffset);
  });
  const recall = async (tensor: GpuTensor): Promise<HostArray> => {
    const bytes = written.get(tensor);
    return bytes ? new Uint32Array(bytes.buffer) : read(tensor);
  };
  vi.spyOn(device, 'read').mockImplementation(recall);
}

test.each(Object.keys(tiers) as TierName[])('%s: all ways compile on the null backend', async (tier) => {
  const device = await nullDevice(tier);
  rememberPlans(device);
  const { decoder, run, destroy } = await load(device);
  const samples = await fillSamples(run, decoder, shape);
  const steps = await recordSteps({ device, decoder, cache: run.cache, samples });
  expect(steps).toHaveLength(6);
  for (const step of steps) {
    step.recording.submit();
    step.destroy();
  }
  destroy();
  await expectNoErrors(device);
  expectNothingAllocated(device);
  device.destroy();
});

test("matrix: padding changes a large GPU's kernel, and it compiles", async () => {
  const device = await nullDevice('matrix', largeGpu);
  const { decoder, run, destroy } = await load(device);
  run.cache.ensure(run.cache.kinds.map(() => 1));
  const check = new KernelCheck(device);
  const attention = new Attention(run.cache, { heads });
  const padded: Pass = {
    device,
    run: (kernel, ...call) => {
      if (kernel.name.startsWith('attend')) check.run(padding(kernel), ...call);
    },
  };
  const batch = createBatch(device, 8);
  const activations = decoder.activations(8);
  const logits = device.tensor('f32', [8, decoder.config.vocabSize]);
  decoder.forward(padded, { batch, attention, activations, rows: 8, logits });
  expect(check.kernels).toHaveLength(layers.length); // windows or not, own keys or not
  for (const { code } of check.kernels) {
    expect(code).toContain('subgroupMatrixMultiplyAccumulate');
    expect(code).not.toContain('min(highest + 1u');
  }
  await check.expectCompiled();
  for (const owned of [attention, batch, activations, logits]) owned.destroy();
  destroy();
  await expectNoErrors(device);
  expectNothingAllocated(device);
  device.destroy();
});
