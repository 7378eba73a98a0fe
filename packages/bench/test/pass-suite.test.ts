import type { FinishReason, PromptedOptions } from '@ensample/runtime';
import { expect, test } from 'vitest';
import { passRow, type Generator, type PassSetting } from '../src/pass/suite.ts';
import type { Task } from '../src/pass/task.ts';

const tasks: Task[] = [
  { doc: 'Returns the sum of two numbers.', signature: 'add(a, b)', tests: [['add(1, 2)', '3']] },
  { doc: 'Returns the given value.', signature: 'same(value)', tests: [['same(4)', '4']] },
];

const setting: PassSetting = {
  n: 2,
  draftLength: 0,
  budgetMs: 0,
  temperature: 0.6,
  maxTokens: 96,
  seed: 7,
};

/** An engine whose samples are given, best first, task by task: text and why it ended. */
function engineOf(
  ...answers: [text: string, finishReason: FinishReason][][]
): Generator & { requests: PromptedOptions[] } {
  const requests: PromptedOptions[] = [];
  return {
    requests,
    generate(options) {
      requests.push(options);
      const answer = answers[Math.max(0, requests.length - 2)] ?? []; // the first request warms up
      const samples = answer.map(([text, finishReason], index) => ({
        index,
        text,
        tokens: Array.from(text, (_, i) => i),
        meanLogprob: -index,
        finishReason,
      }));
      return Promise.resolve({ samples });
    },
  };
}

test('first: the best finished sample passes; all: any does', async () => {
  const engine = engineOf(
    [
      ['  return a - b;', 'stop'],
      ['  return a + b;', 'stop'],
    ],
    [
      ['  return', 'length'],
      ['  return value; }\nmore', 'length'],
    ],
  );
  const row = await passRow(engine, tasks, setting);
  expect(row).toMatchObject({ tasks: 2, passFirst: 0.5, passAll: 1, finished: 0.75 });
  expect(row.results).toMatchObject([
    { name: 'add', samples: 2, finished: 2, passed: 1, first: false, tokens: 30 },
    { name: 'same', samples: 2, finished: 1, passed: 1, first: true },
  ]);
});

test('samples that ran out of time do not count', async () => {
  const late = engineOf([['  return a + b;', 'time']], []);
  expect(await passRow(late, tasks, setting)).toMatchObject({ passFirst: 0, passAll: 0, finished: 0 });
});

test('requests differ by task and hold the setting; the one that warms up has no budget', async () => {
  const engine = engineOf();
  await passRow(engine, tasks, { ...setting, n: 4, draftLength: 'auto', budgetMs: 2500 });
  expect(engine.requests.map(({ seed, timeBudgetMs }) => [seed, timeBudgetMs])).toEqual([
    [7, undefined],
    [7, 2500],
    [263, 2500],
  ]);
  expect(engine.requests.at(-1)).toEqual({
    prompt: {
      text: '/** Returns the given value. */\nexport function same(value) {\n',
      fileName: 'index.js',
    },
    n: 4,
    draftLength: 'auto',
    timeBudgetMs: 2500,
    temperature: 0.6,
    topP: 0.95,
    maxTokens: 96,
    seed: 263,
    rank: 'mean-logprob',
    stop: '\n}',
  });
});
