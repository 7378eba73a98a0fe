import { promisify } from 'node:util';
import { beforeEach, expect, test, vi } from 'vitest';
import { quietPolling } from '../src/quiet-polling.ts';

const timeout = vi.spyOn(globalThis, 'setTimeout');
quietPolling();
beforeEach(() => void timeout.mockClear());

/** Runs a callback that queues itself again for so many turns, under a name. */
async function poll(name: string, turns: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const step = (): void => {
      if (turns-- > 0) setImmediate(again);
      else resolve();
    };
    const again = step.bind(undefined); // its source reads as native code, as that of an addon's function does
    Object.defineProperty(again, 'name', { value: name });
    again();
  });
}

test('polls of native code are some time apart at first', async () => {
  const began = performance.now();
  await poll('', 5);
  expect(performance.now() - began).toBeGreaterThan(5 * 0.04);
});

test('and leave more time in between once they last', async () => {
  await poll('', 20); // more turns than 0.3 ms can hold
  expect(timeout.mock.calls.length).toBeGreaterThan(0);
  expect(timeout.mock.calls.every(([, delay]) => delay === 1)).toBe(true);
});

test('other callbacks are not delayed', async () => {
  await poll('bound step', 1000);
  expect(timeout).not.toHaveBeenCalledWith(expect.anything(), 1);
});

test('setImmediate keeps its arguments and its promisified form', async () => {
  expect(await promisify(setImmediate)('value')).toBe('value');
  expect(await new Promise((resolve) => void setImmediate(resolve, 'argument'))).toBe('argument');
});
