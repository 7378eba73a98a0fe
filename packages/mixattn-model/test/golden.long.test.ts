import { isSoftware } from '@ensample/tensor';
import { eachTier, expectNothingAllocated, testDevice } from '@ensample/testing';
import { test } from 'vitest';
import { golden, packaged } from './golden.ts';

/** js-22m's layers without windows and reuse: not part of this repository. */
const twin = process.env['ENSAMPLE_TWIN'];

await eachTier((device, tier) => {
  // Workgroups with barriers are slow on software drivers: js-1m-draft has all prompts and tokens there, js-22m some.
  const extent = () => (tier !== 'software' && isSoftware(device().info) ? { longest: 30, steps: 8 } : {});

  test('js-1m-draft gives the golden logits and greedy tokens', { timeout: 600_000 }, async () => {
    await golden(device(), packaged('js-1m-draft'));
  });

  test('js-22m gives the golden logits and greedy tokens', { timeout: 600_000 }, async () => {
    await golden(device(), packaged('js-22m'), extent());
  });
});

test.skipIf(!twin)(
  'js-22m-standard does too, on the own tier of the driver (ENSAMPLE_TWIN is its folder)',
  { timeout: 240_000 },
  async () => {
    const device = await testDevice();
    await golden(device, twin ?? '');
    expectNothingAllocated(device);
    device.destroy();
  },
);
