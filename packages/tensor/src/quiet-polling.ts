/** Between two polls while Dawn polls often. */
const PAUSE_MS = 0.05;

/** The classes of npm `webgpu` in which waits begin. */
export interface WaitingClasses {
  readonly GPUBuffer: { readonly prototype: Pick<GPUBuffer, 'mapAsync'> };
  readonly GPUQueue: { readonly prototype: Pick<GPUQueue, 'onSubmittedWorkDone'> };
}

let often: number | undefined;
/** When something last began to wait. */
let began = -Infinity;

/**
 * Lets Dawn poll now and then, not without end. While a buffer is being mapped, Dawn re-queues itself by `setImmediate`. That
 * keeps a core busy, which a software driver needs (long steps run 1.3 to 1.8 times as fast on two cores), and each time it
 * leaves a kilobyte with a finaliser to the garbage collector: decoding a 7B model on an H100 stood still for 25 to 100 ms
 * every 50 steps. Only calls that come from native code are slowed down.
 *
 * @param oftenMs for so long after a wait began Dawn polls every 50 µs, so that short jobs are read back as fast as ever; then
 * once a millisecond. Where several callers differ, the least counts.
 */
export function quietPolling({ GPUBuffer, GPUQueue }: WaitingClasses, oftenMs: number): void {
  const installed = often !== undefined;
  often = Math.min(often ?? Infinity, oftenMs);
  if (installed) return;
  const clock = performance.now.bind(performance); // a test's may stand still
  noteWaits(GPUBuffer.prototype, 'mapAsync', clock);
  noteWaits(GPUQueue.prototype, 'onSubmittedWorkDone', clock);
  const { setImmediate: immediate, setTimeout: timeout } = globalThis;
  const paced = (callback: (...args: unknown[]) => void, ...args: unknown[]): unknown => {
    if (!isNative(callback)) return immediate(callback, ...args);
    const now = clock();
    if (now - began >= (often ?? 0)) return timeout(callback, 1, ...args);
    return immediate(() => {
      // Turns of the event loop would do, but they are garbage as well.
      let later = clock();
      while (later < now + PAUSE_MS) later = clock();
      callback(...args);
    });
  };
  globalThis.setImmediate = Object.assign(paced as typeof setImmediate, immediate); // keeps its promisified form
}

function noteWaits<K extends string>(
  prototype: Record<K, (...args: never[]) => unknown>,
  method: K,
  clock: () => number,
): void {
  const original = prototype[method];
  prototype[method] = function (this: unknown, ...args: never[]): unknown {
    began = clock();
    return original.apply(this, args);
  };
}

/** Functions made by addons have no name and no source; bound ones have the same source but are named `bound …`. */
function isNative(callback: (...args: unknown[]) => void): boolean {
  return callback.name === '' && Function.prototype.toString.call(callback).endsWith('{ [native code] }');
}
