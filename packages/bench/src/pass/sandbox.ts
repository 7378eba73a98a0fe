import variant from '@jitl/quickjs-singlefile-mjs-release-sync';
import {
  newQuickJSWASMModuleFromVariant,
  shouldInterruptAfterDeadline,
  type QuickJSWASMModule,
} from 'quickjs-emscripten-core';
import type { Task } from './task.ts';

/** What a candidate may use. */
export interface Limits {
  /** Milliseconds in all. Checked between statements and calls, so one call of a built-in function may take longer. */
  readonly milliseconds: number;
  readonly memoryBytes: number;
  readonly stackBytes: number;
}

const defaultLimits: Limits = { milliseconds: 500, memoryBytes: 16 * 2 ** 20, stackBytes: 2 ** 18 };

/**
 * JSON that does not depend on the order of keys, and keeps what JSON drops (undefined, NaN, infinities, functions).
 * 0 and −0 are the same.
 */
const show = `(value) => JSON.stringify(value, (key, item) => {
  if (item === undefined || typeof item === 'function') return { '': typeof item };
  if (typeof item === 'number' && !Number.isFinite(item)) return { '': String(item) };
  if (item === null || typeof item !== 'object' || Array.isArray(item)) return item;
  return Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)));
})`;

/** Whether a function passes all tests. One that does not parse, throws or goes beyond a limit fails. */
export async function passes(
  source: string,
  tests: Task['tests'],
  limits: Limits = defaultLimits,
): Promise<boolean> {
  const pairs = tests.map(([call, expected]) => `[() => (${call}), () => (${expected})]`);
  const code = `'use strict';
    const $tests = (() => { ${source}; return [${pairs.join()}]; })();
    const $show = ${show};
    $tests.every(([call, expected]) => $show(call()) === $show(expected()));`;
  return (await evaluate(code, limits)) === true;
}

/** WebAssembly with QuickJS in it: one for all calls, until code breaks it. */
let instance: Promise<QuickJSWASMModule> | undefined;

/**
 * The value of JavaScript code, in a new QuickJS runtime in WebAssembly. The code sees the language and nothing of the
 * host: no files, no network, no timers.
 * @returns undefined when the code throws or goes beyond a limit.
 */
export async function evaluate(code: string, limits: Limits = defaultLimits): Promise<unknown> {
  const quickjs = await (instance ??= newQuickJSWASMModuleFromVariant(variant));
  try {
    return quickjs.evalCode(code, {
      shouldInterrupt: shouldInterruptAfterDeadline(Date.now() + limits.milliseconds),
      memoryLimitBytes: limits.memoryBytes,
      maxStackSizeBytes: limits.stackBytes,
    });
  } catch (error) {
    // What the code throws comes as plain data: an error of the host's own kind means that QuickJS itself went down.
    if (error instanceof Error) instance = undefined;
    return undefined;
  }
}
