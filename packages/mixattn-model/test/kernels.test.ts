import { Attention } from '@ensample/bifurcated-attn';
import { KvCache } from '@ensample/kv-cache';
import { createBatch, tiers, type Kernel, type Pass, type TierName } from '@ensample/tensor';
import { expectNothingAllocated, largeGpu, nullDevice, scope, tinyFiles, tinyModel } from '@ensample/testing';
import { expect, test } from 'vitest';
import { chosenKernels, Decoder, openSafetensors, openWeights } from '../src/index.ts';

test.each(Object.keys(tiers) as TierName[])(
  '%s: what is said to be chosen is what is recorded',
  async (tier) => {
    const device = await nullDevice(tier, largeGpu);
    const tiny = tinyModel();
    const { config } = tiny;
    const file = await openSafetensors(await tinyFiles(tiny).bytes('model.safetensors'), 'tiny');
    const { own, destroy } = scope();
    const decoder = own(await Decoder.load(device, config, openWeights(config, file)));
    for (const rows of [1, 3, 16, 40, 200]) {
      const cache = own(new KvCache(device, decoder.layout));
      cache.ensure(cache.kinds.map(() => 1));
      const attention = own(new Attention(cache, { heads: config.heads }));
      const kernels: Kernel[] = [];
      const pass: Pass = { device, run: (kernel) => void kernels.push(kernel) };
      const batch = own(createBatch(device, rows));
      const logits = own(device.tensor<'f32'>('f32', [rows, config.vocabSize]));
      const activations = own(decoder.activations(rows));
      decoder.forward(pass, { batch, attention, activations, rows, logits });

      const chosen = chosenKernels(device, config, file, rows);
      const products = kernels.flatMap(({ name }) => /^matmul_(?!add)(.*)_[a-z]+\d+$/.exec(name)?.[1] ?? []);
      const { qkv, output, gateUp, down, head } = chosen;
      expect([...products.slice(0, 4), products.at(-1)]).toEqual([qkv, output, gateUp, down, head]);
      const { code } = kernels.find(({ name }) => name === 'attend')!;
      const vectors = /VECTORS = (\d+)u/.exec(code)?.[1];
      const few = /FEW = (\d+)u/.exec(code)?.[1];
      expect(chosen.attention).toBe(vectors ? `${tiers[tier].attention}${vectors}` : `few${few}`);
    }
    destroy();
    expectNothingAllocated(device);
    device.destroy();
  },
);
