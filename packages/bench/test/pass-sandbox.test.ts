import { describe, expect, test } from 'vitest';
import { evaluate, passes, type Limits } from '../src/pass/sandbox.ts';

/** Where time is not what is tested. */
const roomy: Limits = { milliseconds: 10_000, memoryBytes: 2 ** 26, stackBytes: 2 ** 18 };

describe('evaluate', () => {
  test.each([
    ['a loop', 'while (true);'],
    ['a loop that catches', 'for (;;) { try { for (;;); } catch {} }'],
    ['a slow pattern', "/(a+)+b/.test('a'.repeat(40))"],
  ])('stops %s in time', async (_, code) => {
    const began = performance.now();
    expect(await evaluate(`${code}; 1`)).toBeUndefined();
    expect(performance.now() - began).toBeLessThan(2000);
  });

  test.each([
    ['arrays', 'let a = [1]; for (;;) a = a.concat(a);'],
    ['a string', "'x'.padStart(1e9);"],
    ['a buffer', 'new Uint8Array(1e9);'],
  ])('stops a memory bomb of %s', async (_, code) => {
    const began = performance.now();
    expect(await evaluate(`${code} 1`, { ...roomy, memoryBytes: 4 * 2 ** 20 })).toBeUndefined();
    expect(performance.now() - began).toBeLessThan(roomy.milliseconds);
  });

  test('stops endless recursion, and what breaks QuickJS itself breaks no later call', async () => {
    expect(await evaluate('(function f() { return f() + 1; })()')).toBeUndefined();
    const nested = 'let x = []; for (let i = 0; i < 1e5; i++) x = [x]; x';
    expect(await evaluate(nested, roomy)).toBeUndefined();
    expect(await evaluate('1 + 1')).toBe(2);
  });

  test('has nothing of the host', async () => {
    const names = [
      'fetch',
      'require',
      'process',
      'console',
      'setTimeout',
      'WebAssembly',
      'std',
      'os',
      'navigator',
    ];
    expect(await evaluate(`[${names.map((name) => `typeof ${name}`).join()}]`)).toEqual(
      names.map(() => 'undefined'),
    );
    expect(await evaluate("import('fs')")).not.toHaveProperty('readFile');
  });

  test('keeps nothing from one call to the next', async () => {
    expect(await evaluate('globalThis.left = 1')).toBe(1);
    expect(await evaluate('typeof left')).toBe('undefined');
  });
});

describe('passes', () => {
  const returns = (value: string, expected: string) =>
    passes(`function f() { return ${value}; }`, [['f()', expected]]);

  test.each([
    ['1', '1'],
    ['{ a: 1, b: [2, { c: 3 }] }', '{ b: [2, { c: 3 }], a: 1 }'],
    ['NaN', 'NaN'],
    ['-0', '0'],
    ['undefined', 'undefined'],
    ['[undefined]', '[undefined]'],
  ])('%s is %s', async (value, expected) => {
    expect(await returns(value, expected)).toBe(true);
  });

  test.each([
    ['1', "'1'"],
    ['1', 'true'],
    ['NaN', 'null'],
    ['Infinity', '-Infinity'],
    ['undefined', 'null'],
    ['[undefined]', '[null]'],
    ['{ a: undefined }', '{}'],
    ['[]', '{}'],
    ['[1, 2]', '[2, 1]'],
    ['() => 1', 'undefined'],
  ])('%s is not %s', async (value, expected) => {
    expect(await returns(value, expected)).toBe(false);
  });

  test('every test counts', async () => {
    expect(
      await passes('function f(x) { return x; }', [
        ['f(1)', '1'],
        ['f(2)', '3'],
      ]),
    ).toBe(false);
  });

  test.each([
    ['throws', 'function f() { throw new Error("no"); }'],
    ['throws nothing', 'function f() { throw null; }'],
    ['does not parse', 'function f() { return (; }'],
    ['uses what is not there', 'function f() { return helper(); }'],
    ['recurses for ever', 'function f() { return f(); }'],
  ])('a function that %s fails', async (_, source) => {
    expect(await passes(source, [['f()', 'undefined']])).toBe(false);
  });
});
