import { defineCommand, type SubCommandsDef } from 'citty';
import { js22m } from '@ensample/model-js';
import { createEngine, type Engine } from '@ensample/runtime';
import { InvalidOptionError } from '@ensample/tensor';
import { deviceArgs, openDevice } from '../device-args.ts';
import { settingOf, table, writeResult } from '../results.ts';
import { passRow, type PassRow, type PassSetting, type TaskResult } from './suite.ts';
import type { Task } from './task.ts';
import { tasks as allTasks } from './tasks/index.ts';

/** The model is part of the measure, and its size is told with it. */
const { adapter, tier, device, results } = deviceArgs;

const caution =
  'js-22m is very small: 21.3 M parameters in int8, trained for minutes. The figures compare ways of sampling;\n' +
  'they say nothing of what a code model of the usual size can do.';

interface Args {
  readonly n: string;
  readonly budget: string;
  readonly draftLength: string;
  readonly temperature: string;
  readonly maxTokens: string;
  readonly seed: string;
  readonly verbose: boolean;
}

/** `bench pass` */
export const pass: SubCommandsDef[string] = defineCommand({
  meta: {
    name: 'pass',
    description:
      'Pass@First and Pass@All on short JavaScript tasks, within a time budget, with speculation or without',
  },
  args: {
    ...{ adapter, tier, device, results },
    n: { type: 'string', description: 'sample counts', default: '1,8,16' },
    budget: { type: 'string', description: 'milliseconds for a task; 0: no limit', default: '2500' },
    draftLength: { type: 'string', description: 'draft lengths: numbers, bass, auto', default: '0,auto' },
    temperature: { type: 'string', description: 'randomness of the samples', default: '0.6' },
    maxTokens: { type: 'string', description: 'most tokens of a sample', default: '96' },
    tasks: { type: 'string', description: 'only the first tasks', default: String(allTasks.length) },
    seed: { type: 'string', description: 'seed of the draws', default: '1' },
    verbose: { type: 'boolean', description: 'a line for each task', default: false },
  },
  async run({ args }) {
    const device = await openDevice(args);
    try {
      const tasks = firstTasks(args.tasks);
      const setting = settingOf(device, args.device);
      console.log(`${setting.device}, tier ${setting.tier}: js-22m, ${tasks.length} tasks\n${caution}`);
      const engine = await createEngine({ device, model: js22m() });
      const rows = await passRows(engine, tasks, args);
      engine.dispose();
      console.log(table(rows.map(printed)));
      console.log(`written: ${await writeResult(args.results, 'pass-js-22m', setting, rows)}`);
    } finally {
      device.destroy();
    }
  },
});

function firstTasks(text: string): readonly Task[] {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > allTasks.length) {
    throw new InvalidOptionError(`--tasks is ${text}: it must be an integer from 1 up to ${allTasks.length}`);
  }
  return allTasks.slice(0, count);
}

async function passRows(engine: Engine, tasks: readonly Task[], args: Args): Promise<PassRow[]> {
  const rows: PassRow[] = [];
  for (const setting of settingsOf(args)) {
    if (args.verbose)
      console.log(`n ${setting.n}, draft length ${setting.draftLength}, ${budgetOf(setting)}`);
    rows.push(await passRow(engine, tasks, setting, args.verbose ? printTask : undefined));
  }
  return rows;
}

/** All combinations of budget, n and draft length. */
function settingsOf({ n, budget, draftLength, ...args }: Args): PassSetting[] {
  const fixed = {
    temperature: Number(args.temperature),
    maxTokens: Number(args.maxTokens),
    seed: Number(args.seed),
  };
  return budget.split(',').flatMap((ms) =>
    n.split(',').flatMap((samples) =>
      draftLength.split(',').map((length) => ({
        n: Number(samples),
        draftLength: length === 'auto' || length === 'bass' ? length : Number(length),
        budgetMs: Number(ms),
        ...fixed,
      })),
    ),
  );
}

function budgetOf({ budgetMs }: PassSetting): string {
  return budgetMs > 0 ? `${budgetMs} ms` : 'no limit';
}

function printTask({ name, samples, finished, passed, first, ms }: TaskResult): void {
  const best = first ? 'first' : passed > 0 ? 'any' : '-';
  console.log(
    `${best.padStart(5)}  ${name}: ${passed} pass, ${finished} of ${samples} finished, ${ms.toFixed(0)} ms`,
  );
}

function printed(row: PassRow): Record<string, string | number> {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  return {
    n: row.n,
    'draft length': row.draftLength === 0 ? 'plain' : row.draftLength,
    budget: budgetOf(row),
    'Pass@First': percent(row.passFirst),
    'Pass@All': percent(row.passAll),
    finished: percent(row.finished),
    'ms/task': row.msPerTask.toFixed(0),
    'tokens/task': row.tokensPerTask.toFixed(0),
  };
}
