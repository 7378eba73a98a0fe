/** In the first moments of a wait Dawn polls this often: short jobs are read back as fast as ever. */
const FIRST_MS = 0.3;
const FIRST_PAUSE_MS = 0.05;
/** A longer pause between two polls means that a new wait has begun. */
const NEW_WAIT_MS = 2;

let installed = false;

/**
 * Lets Dawn poll now and then, once a millisecond where a wait lasts, not without end. While a buffer is being mapped,
 * Dawn re-queues itself by `setImmediate`. That keeps a core busy, which a software driver needs (long steps run 1.3 to 1.8
 * times as fast on two cores), and each time it leaves a kilobyte with a finaliser to the garbage collector: decoding a 7B model on an H100
 * stood still for 25 to 100 ms every 50 steps. Only calls that come from native code are slowed down.
 */
export function quietPolling(): void {
  if (installed) return;
  installed = true;
  const { setImmediate: immediate, setTimeout: timeout } = globalThis;
  const clock = performance.now.bind(performance); // a test's may stand still
  let began = 0;
  let polled = 0;
  const paced = (callback: (...args: unknown[]) => void, ...args: unknown[]): unknown => {
    if (!isNative(callback)) return immediate(callback, ...args);
    const now = clock();
    if (now - polled > NEW_WAIT_MS) began = now;
    polled = now;
    if (now - began >= FIRST_MS) return timeout(callback, 1, ...args);
    const turn = (): void => {
      if (clock() < now + FIRST_PAUSE_MS) immediate(turn);
      else callback(...args);
    };
    return immediate(turn);
  };
  globalThis.setImmediate = Object.assign(paced as typeof setImmediate, immediate); // keeps its promisified form
}

/** Functions made by addons have no name and no source; bound ones have the same source but are named `bound …`. */
function isNative(callback: (...args: unknown[]) => void): boolean {
  return callback.name === '' && Function.prototype.toString.call(callback).endsWith('{ [native code] }');
}
