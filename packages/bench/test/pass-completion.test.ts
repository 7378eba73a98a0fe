import type { FinishReason } from '@ensample/runtime';
import { expect, test } from 'vitest';
import { completedFunction } from '../src/pass/completion.ts';

const head = 'function f(a) {\n';

function complete(text: string, finishReason: FinishReason = 'length'): string | undefined {
  const source = completedFunction(head, { text, finishReason });
  return source?.slice(head.length);
}

test('what follows the function is left out', () => {
  expect(complete('  return a;\n}\n\nexport function g() {\n  return 1;\n}')).toBe('  return a;\n}');
  expect(complete('  return a; }\n/** More. */\nexport function g() {')).toBe('  return a; }');
});

test.each([
  ['  if (a) {\n    return { a };\n  }\n  return {};\n}'],
  ['  return \'}\' + "}";\n}'],
  ['  return `}${[a].map((x) => `{${x}}`)}`;\n}'],
  ['  return a.replace(/[{}]/g, "}");\n}'],
  ['  // }\n  /* } */\n  return a;\n}'],
])('the last brace is found: %j', (body) => {
  expect(complete(`${body}\nfunction g() {}`)).toBe(body);
});

test('a function cut short is none', () => {
  expect(complete('  if (a) {\n    return 1;\n  }')).toBeUndefined();
  expect(complete('  if (a) {\n    return 1;\n  }', 'time')).toBeUndefined();
  expect(complete('')).toBeUndefined();
});

test('the brace that ended a sample is put back', () => {
  expect(complete('  return a;', 'stop')).toBe('  return a;\n}');
  expect(complete('  return { a };', 'stop')).toBe('  return { a };\n}');
});

test('text that is no JavaScript counts as finished where it stopped', () => {
  expect(complete('  return (a as any)', 'stop')).toBe('  return (a as any)\n}');
  expect(complete('  return (a as any)\n}')).toBeUndefined();
});
