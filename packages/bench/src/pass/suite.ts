import type { GenerateResult, PromptedOptions } from '@ensample/runtime';
import { completedFunction, stop } from './completion.ts';
import { passes } from './sandbox.ts';
import { headOf, nameOf, promptOf, type Task } from './task.ts';

/** What the suite needs of an engine. */
export interface Generator {
  generate(options: PromptedOptions): Promise<Pick<GenerateResult, 'samples'>>;
}

/** How samples of all tasks are drawn. */
export interface PassSetting {
  /** Samples of a task. */
  readonly n: number;
  /** Tokens guessed per round; 0: plain decoding. */
  readonly draftLength: number | 'auto' | 'bass';
  /** Milliseconds for the samples of a task; 0: no limit. */
  readonly budgetMs: number;
  readonly temperature: number;
  /** Most tokens of a sample. */
  readonly maxTokens: number;
  /** Task i draws with seed + 256 i and up, so that samples are the same whatever n is. */
  readonly seed: number;
}

/** What became of a task's samples. */
export interface TaskResult {
  readonly name: string;
  readonly samples: number;
  /** Samples whose function ended within the limits. */
  readonly finished: number;
  /** Finished samples that pass the tests. */
  readonly passed: number;
  /** The finished sample with the best mean log-probability passes. */
  readonly first: boolean;
  readonly tokens: number;
  readonly ms: number;
}

/** All tasks in one setting. */
export interface PassRow extends PassSetting {
  readonly tasks: number;
  /** Share of the tasks whose best finished sample, by mean log-probability, passes. */
  readonly passFirst: number;
  /** Share of the tasks with any finished sample that passes. */
  readonly passAll: number;
  /** Share of all samples that finished. */
  readonly finished: number;
  readonly msPerTask: number;
  readonly tokensPerTask: number;
  readonly results: readonly TaskResult[];
}

/** Pass@First and Pass@All of one setting. An untimed run of the first task compiles what is needed. */
export async function passRow(
  engine: Generator,
  tasks: readonly Task[],
  setting: PassSetting,
  onTask?: (result: TaskResult) => void,
): Promise<PassRow> {
  if (tasks[0]) await engine.generate(requestOf(tasks[0], { ...setting, budgetMs: 0 }));
  const results: TaskResult[] = [];
  for (const [i, task] of tasks.entries()) {
    const result = await attempt(engine, task, { ...setting, seed: setting.seed + 256 * i });
    results.push(result);
    onTask?.(result);
  }
  return summary(setting, results);
}

async function attempt(engine: Generator, task: Task, setting: PassSetting): Promise<TaskResult> {
  const began = performance.now();
  const { samples } = await engine.generate(requestOf(task, setting));
  const ms = performance.now() - began;
  const passed: boolean[] = [];
  for (const sample of samples) {
    const source = completedFunction(headOf(task), sample);
    if (source !== undefined) passed.push(await passes(source, task.tests));
  }
  return {
    name: nameOf(task),
    samples: samples.length,
    finished: passed.length,
    passed: passed.filter(Boolean).length,
    first: passed[0] ?? false, // samples come best first
    tokens: total(samples, ({ tokens }) => tokens.length),
    ms,
  };
}

function requestOf(task: Task, { n, draftLength, budgetMs, ...setting }: PassSetting): PromptedOptions {
  return {
    prompt: { text: promptOf(task), fileName: 'index.js' },
    n,
    draftLength,
    ...setting,
    ...(budgetMs > 0 ? { timeBudgetMs: budgetMs } : {}),
    topP: 0.95,
    rank: 'mean-logprob',
    stop,
  };
}

function summary(setting: PassSetting, results: readonly TaskResult[]): PassRow {
  const perTask = (value: (result: TaskResult) => number) => total(results, value) / results.length;
  return {
    ...setting,
    tasks: results.length,
    passFirst: perTask(({ first }) => Number(first)),
    passAll: perTask(({ passed }) => Number(passed > 0)),
    finished: total(results, ({ finished }) => finished) / total(results, ({ samples }) => samples),
    msPerTask: perTask(({ ms }) => ms),
    tokensPerTask: perTask(({ tokens }) => tokens),
    results,
  };
}

function total<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((sum, item) => sum + value(item), 0);
}
