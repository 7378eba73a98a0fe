import { promptLookup, siblingLookup } from '@ensample/spec-decode';
import type { Device } from '@ensample/tensor';
import { expectNoErrors, expectNothingAllocated, seeded, testDevice } from '@ensample/testing';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import type { Session } from '../src/index.ts';
import { prompt } from './tiny-engine.ts';
import { mostSamples, randomRun, Torture, type TortureOptions } from './torture.ts';

vi.mock('@ensample/kv-cache', async (real) => (await import('./imposed.ts')).smallPages(await real()));
vi.mock('@ensample/spec-decode', async (real) => (await import('./imposed.ts')).listedLengths(await real()));

let device: Device;
beforeAll(async () => {
  device = await testDevice();
});
afterEach(() => expectNoErrors(device));
afterAll(() => {
  expectNothingAllocated(device);
  device.destroy();
});

const lookups = [siblingLookup({ shortest: 1 }), promptLookup({ shortest: 2 })];
const cases: Record<string, TortureOptions> = {
  'full attention, pages of 4': { target: { layers: '0 1' }, draft: { layers: '0', seed: 5 }, pageTokens: 4 },
  'windows of 16 and shared KV, pages of 8': {
    target: { layers: '0s 1 0s 1' },
    draft: { layers: '0s 1', seed: 5 },
    pageTokens: 8,
  },
  'windows only, and lookups': {
    target: { layers: '0s 0s' },
    draft: { layers: '0s', window: 9, seed: 5 },
    ...{ pageTokens: 16, lookups },
  },
  'a window of 5 on pages of 32': {
    target: { layers: '0s 1', window: 5 },
    draft: { layers: '0s', window: 5, seed: 5 },
    pageTokens: 32,
  },
};

/** A session with tokens of its own and of others before them; whoever it was forked off may be gone. */
async function branched(sessions: readonly Session[], at: number, tokens: number[]): Promise<Session> {
  const [session] = sessions[at % sessions.length]!.fork(1);
  await session!.append(tokens);
  return session!;
}

test.each(Object.entries(cases))('%s: any runs in any order', { timeout: 600_000 }, async (_, options) => {
  using torture = await Torture.start(device, options);
  const random = seeded(11);
  const sessions = [await torture.engine.prefill(prompt(40))];
  let rounds = 0;
  for (let i = 0; rounds < 600; i++) {
    if (i % 3 === 0)
      sessions.push(await branched(sessions, random.integer(8), prompt(1 + random.integer(9), i)));
    if (sessions.length > 4) sessions.splice(random.integer(5), 1)[0]!.dispose();
    const session = sessions[random.integer(sessions.length)]!;
    const run = randomRun(random, mostSamples, session.tokens.length);
    if (random.integer(6) === 0) await torture.leave(session, run, 1 + random.integer(200));
    else rounds += (await torture.run(session, run)).rounds;
  }
  for (const session of sessions) session.dispose();
  expect(torture.used).toEqual([0, 0]);
});
