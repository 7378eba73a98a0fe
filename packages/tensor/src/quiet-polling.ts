/** Dawn may poll without a pause for this long: short jobs are read back as fast as ever. */
const SPIN_MS = 0.3;
/** A longer pause between two polls means that a new wait has begun. */
const NEW_WAIT_MS = 3;

let installed = false;

/**
 * Lets Dawn poll once a millisecond, not without end. While a buffer is being mapped, Dawn re-queues itself by
 * `setImmediate` and so keeps a core busy; a software driver needs that core (long steps run 1.3 to 1.8 times as fast
 * on two cores). Only calls that come from native code are slowed down.
 */
export function quietPolling(): void {
  if (installed) return;
  installed = true;
  const { setImmediate: immediate, setTimeout: timeout } = globalThis;
  let began = 0;
  let polled = 0;
  const paced = (callback: (...args: unknown[]) => void, ...args: unknown[]): unknown => {
    if (!isNative(callback)) return immediate(callback, ...args);
    const now = performance.now();
    if (now - polled > NEW_WAIT_MS) began = now;
    polled = now;
    return now - began < SPIN_MS ? immediate(callback, ...args) : timeout(callback, 1, ...args);
  };
  globalThis.setImmediate = Object.assign(paced as typeof setImmediate, immediate); // keeps its promisified form
}

/** Functions made by addons have no name and no source; bound ones have the same source but are named `bound …`. */
function isNative(callback: (...args: unknown[]) => void): boolean {
  return callback.name === '' && Function.prototype.toString.call(callback).endsWith('{ [native code] }');
}
