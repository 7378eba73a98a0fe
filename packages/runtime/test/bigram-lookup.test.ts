import { readFile } from 'node:fs/promises';
import { siblingLookup } from '@ensample/spec-decode';
import type { Device } from '@ensample/tensor';
import { expectNoErrors, expectNothingAllocated, testDevice } from '@ensample/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { GenerateResult } from '../src/index.ts';
import { bigramLookup, bigramTable } from './bigram-lookup.ts';
import { prompt, tinyEngine } from './tiny-engine.ts';

const vocab = 96;
const tokensOf = ({ samples }: GenerateResult) => samples.map(({ tokens }) => tokens);
const request = { prompt: prompt(40), n: 3, maxTokens: 60, temperature: 0.2, seed: 5, ignoreEos: true };

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterAll(() => {
  expectNothingAllocated(device);
  device.destroy();
});

/** The example of docs/adding-a-draft-strategy.md. */
it('a strategy of the user’s own saves rounds and leaves the text as it is', async () => {
  const table = device.tensor('u32', [vocab]);
  const draft = [siblingLookup(), bigramLookup(table)];
  using engine = await tinyEngine(device, {}, { draft, kvType: 'f32' });
  const plain = await engine.generate({ ...request, draftLength: 0 });
  device.write(
    table,
    bigramTable(
      plain.samples.flatMap(({ tokens }) => tokens),
      vocab,
    ),
  );

  const drafted = await engine.generate({ ...request, draftLength: 4 });
  expect(tokensOf(drafted)).toEqual(tokensOf(plain));
  expect(drafted.stats.steps).toBeLessThan(plain.stats.steps);
  const own = drafted.stats.speculation?.strategies[1];
  expect(own?.name).toBe('bigram-lookup');
  expect(own?.accepted).toBeGreaterThan(10);
  await expectNoErrors(device);
  table.destroy();
});

it('a guess that is no token ends the call with an error', async () => {
  const table = device.upload('u32', [vocab], new Uint32Array(vocab).fill(vocab));
  using engine = await tinyEngine(device, {}, { draft: bigramLookup(table) });
  await expect(engine.generate({ ...request, draftLength: 4 })).rejects.toThrow(
    'draft strategy bigram-lookup guessed token 96: ids of this model are integers from 0 to 95',
  );
  table.destroy();
});

it('the page has the code that was tested', async () => {
  const page = await readFile(new URL('../../../docs/adding-a-draft-strategy.md', import.meta.url), 'utf8');
  expect(page).toContain(await readFile(new URL('bigram-lookup.ts', import.meta.url), 'utf8'));
});
