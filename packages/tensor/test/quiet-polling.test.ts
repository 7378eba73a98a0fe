import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { quietPolling } from '../src/quiet-polling.ts';

/** How often a callback that queues itself again runs within 50 ms. */
async function turns(name: string): Promise<number> {
  const end = performance.now() + 50;
  let count = 0;
  await new Promise<void>((resolve) => {
    const step = (): void => {
      count++;
      if (performance.now() > end) resolve();
      else setImmediate(again);
    };
    const again = step.bind(undefined); // native source, as an addon's function has
    Object.defineProperty(again, 'name', { value: name });
    again();
  });
  return count;
}

test('callbacks of native code come once a millisecond, all others at once', async () => {
  quietPolling();
  expect(await turns('')).toBeLessThan(200);
  expect(await turns('bound step')).toBeGreaterThan(500);
});

test('setImmediate keeps its arguments and its promisified form', async () => {
  quietPolling();
  expect(await promisify(setImmediate)('value')).toBe('value');
  expect(await new Promise((resolve) => void setImmediate(resolve, 'argument'))).toBe('argument');
});
