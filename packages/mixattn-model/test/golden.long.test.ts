import { eachTier } from '@ensample/testing';
import { test } from 'vitest';
import { golden, packaged } from './golden.ts';

await eachTier((device) => {
  test('js-1m-draft gives the golden logits and greedy tokens', { timeout: 600_000 }, async () => {
    await golden(device(), packaged('js-1m-draft'));
  });

  test('js-22m gives the golden logits and greedy tokens', { timeout: 600_000 }, async () => {
    await golden(device(), packaged('js-22m'));
  });
});
