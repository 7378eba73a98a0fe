import { promisify } from 'node:util';
import { beforeEach, expect, test, vi } from 'vitest';
import { quietPolling, type WaitingClasses } from '../src/quiet-polling.ts';

const timeout = vi.spyOn(globalThis, 'setTimeout');
/** A buffer and a queue in whose prototypes waits are noted. */
const waits = {
  GPUBuffer: { prototype: { mapAsync: vi.fn(() => Promise.resolve(undefined)) } },
  GPUQueue: { prototype: { onSubmittedWorkDone: vi.fn(() => Promise.resolve(undefined)) } },
} satisfies WaitingClasses;
const { mapAsync, onSubmittedWorkDone } = {
  mapAsync: waits.GPUBuffer.prototype.mapAsync,
  onSubmittedWorkDone: waits.GPUQueue.prototype.onSubmittedWorkDone,
};
quietPolling(waits, 200);
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

const pauses = () => timeout.mock.calls.filter(([, delay]) => delay === 1).length;

test.each(['mapAsync', 'onSubmittedWorkDone'] as const)(
  'after %s native code polls every 50 µs, then once a millisecond',
  async (method) => {
    const began = performance.now();
    await (method === 'mapAsync'
      ? waits.GPUBuffer.prototype.mapAsync()
      : waits.GPUQueue.prototype.onSubmittedWorkDone());
    expect(method === 'mapAsync' ? mapAsync : onSubmittedWorkDone).toHaveBeenCalledOnce();
    await poll('', 5);
    expect(performance.now() - began).toBeGreaterThan(5 * 0.04);
    expect(pauses()).toBe(0);
    await new Promise((resolve) => setTimeout(resolve, 210));
    await poll('', 3);
    expect(pauses()).toBe(3);
  },
);

test('the least of what callers ask for counts', async () => {
  quietPolling(waits, 0);
  await waits.GPUBuffer.prototype.mapAsync();
  await poll('', 3);
  expect(pauses()).toBe(3);
});

test('it goes on while the clock of a test stands still', async () => {
  const now = vi.spyOn(performance, 'now').mockReturnValue(5);
  await waits.GPUBuffer.prototype.mapAsync();
  await poll('', 3);
  now.mockRestore();
});

test('other callbacks are not delayed', async () => {
  await poll('bound step', 1000);
  expect(timeout).not.toHaveBeenCalledWith(expect.anything(), 1);
});

test('setImmediate keeps its arguments and its promisified form', async () => {
  expect(await promisify(setImmediate)('value')).toBe('value');
  expect(await new Promise((resolve) => void setImmediate(resolve, 'argument'))).toBe('argument');
});
