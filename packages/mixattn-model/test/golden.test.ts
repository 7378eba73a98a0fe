import { isSoftware, type Device } from '@ensample/tensor';
import {
  eachTier,
  expectNoErrors,
  expectNothingAllocated,
  sameProducts,
  testDevice,
} from '@ensample/testing';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { golden, packaged } from './golden.ts';

await eachTier((device, tier) => {
  // Workgroups with barriers are slow on software drivers: all prompts and tokens are in the long test there.
  const extent = () => (tier !== 'software' && isSoftware(device().info) ? { longest: 24, steps: 4 } : {});

  test('js-1m-draft gives the golden logits and greedy tokens', { timeout: 240_000 }, async () => {
    await golden(device(), packaged('js-1m-draft'), extent());
  });
}, sameProducts);

describe("the driver's own tier", () => {
  let device: Device;
  beforeAll(async () => {
    device = await testDevice();
  });
  afterAll(async () => {
    await expectNoErrors(device);
    expectNothingAllocated(device);
    device.destroy();
  });

  test('js-22m gives the golden logits and greedy tokens', { timeout: 240_000 }, async () => {
    await golden(device, packaged('js-22m'), { steps: 16 }); // all of them are in the long test
  });
});
