import { Decoder, openSafetensors, openWeights } from '@ensample/mixattn-model';
import { testDevice, tinyFiles, tinyModel } from '@ensample/testing';
import { expect, test } from 'vitest';
import { benchSamples } from '../src/samples.ts';

test('the prompt is read once for all samples, and once per sample by the baseline', async () => {
  const device = await testDevice();
  const tiny = tinyModel();
  const file = await openSafetensors(await tinyFiles(tiny).bytes('model.safetensors'), 'tiny');
  const model = await Decoder.load(device, tiny.config, openWeights(tiny.config, file));
  const [one, four] = await benchSamples(device, model, { prompt: 40, own: 2, n: [1, 4], repeats: 1 });
  expect(one?.sharedBytes).toBe(one?.perSampleBytes);
  expect(four?.perSampleBytes).toBe(4 * (one?.perSampleBytes ?? NaN));
  expect(four?.sharedBytes).toBeLessThan(four?.perSampleBytes ?? 0);
  model.destroy();
  expect(device.memory.bytes).toBe(0);
  device.destroy();
});
