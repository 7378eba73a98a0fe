import { createBatch, Recorder, tiers, type TierName } from '@ensample/tensor';
import { expectNoErrors, expectNothingAllocated, nullDevice, scope } from '@ensample/testing';
import { expect, test } from 'vitest';
import {
  accept,
  advanceDraft,
  clearGuesses,
  keepLaw,
  layOutRows,
  promptLookup,
  rejection,
  siblingLookup,
} from '../src/index.ts';
import { createWorld, propose } from './world.ts';

const vocab = 50;
const rows = 4;

test.each(Object.keys(tiers) as TierName[])('%s: compiles on the null backend', async (tier) => {
  const device = await nullDevice(tier);
  const { own, destroy } = scope();
  const { tensors: world } = createWorld(device, own, {
    ...{ prompt: [1, 2, 3], samples: [{ position: 2 }], room: 16, rows },
  });
  const u32 = () => own(device.tensor('u32', [rows, 4]));
  const logits = own(device.tensor('f32', [rows, vocab]));
  const laws = { tensor: own(device.tensor('f32', [1, rows - 1, vocab])), guesses: rows - 1 };
  const batch = own(createBatch(device, rows));
  const tensors = { ...world, batch, picks: u32(), logits, adjusted: logits };

  const recorder = new Recorder(device);
  clearGuesses(recorder, tensors);
  layOutRows(recorder, tensors, 'draft');
  keepLaw(recorder, { ...tensors, laws }, { vocab, samples: 1 });
  advanceDraft(recorder, tensors, { origin: 1 });
  layOutRows(recorder, tensors);
  rejection.judge?.(recorder, { ...tensors, laws }, { vocab, rows, model: 1 });
  rejection.judge?.(recorder, tensors, { vocab, rows, model: 0 });
  accept(recorder, { ...tensors, stops: u32(), results: u32() }, { vocab });
  const recording = await recorder.finish();
  recording.submit();
  expect(recording.names).toEqual([
    ...['clear_guesses', 'lay_out_rows', 'keep_law', 'advance_draft', 'lay_out_rows'],
    ...['reject', 'reject', 'accept'],
  ]);
  const round = { device, tensors: world, length: rows - 1, samples: 1, origin: 1 };
  for (const strategy of [promptLookup(), siblingLookup()])
    expect(await propose(strategy, round)).toEqual([strategy.name]);

  destroy();
  await expectNoErrors(device);
  expectNothingAllocated(device);
  device.destroy();
});
