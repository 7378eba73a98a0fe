import { describe, expect, test } from 'vitest';
import { completedFunction } from '../src/pass/completion.ts';
import { passes } from '../src/pass/sandbox.ts';
import { headOf, nameOf, promptOf } from '../src/pass/task.ts';
import { tasks } from '../src/pass/tasks/index.ts';
import { solutions } from './pass-solutions.ts';

describe('tasks', () => {
  test('are at least 64, with different names, and a solution each', () => {
    const names = tasks.map(nameOf);
    expect(names.length).toBeGreaterThanOrEqual(64);
    expect(new Set(names).size).toBe(names.length);
    expect(Object.keys(solutions).sort()).toEqual(names.sort());
  });

  test('ask with a doc comment and a signature', () => {
    const max = tasks.find((task) => nameOf(task) === 'max')!;
    expect(promptOf(max)).toBe('/** Returns the larger of two numbers. */\nexport function max(a, b) {\n');
  });

  test.each(tasks.map((task) => [nameOf(task), task] as const))('%s', async (name, task) => {
    const solve = (body: string) =>
      completedFunction(headOf(task), { text: `${body}\n}`, finishReason: 'stop' })!;
    expect(await passes(solve(`  ${solutions[name]!}`), task.tests)).toBe(true);
    expect(await passes(solve(''), task.tests)).toBe(false);
    // No constant answer passes either.
    for (const value of ['true', 'false', '0', "''", '[]', '{}', ...parameters(task.signature)]) {
      if (solutions[name] === `return ${value};`) continue;
      expect(await passes(solve(`  return ${value};`), task.tests), value).toBe(false);
    }
  });
});

function parameters(signature: string): string[] {
  return signature.slice(signature.indexOf('(') + 1, -1).split(', ');
}
