import { defineCommand, type SubCommandsDef } from 'citty';
import { modelSource } from '@ensample/mixattn-model';
import { diskFiles } from '@ensample/mixattn-model/node';
import { js22m } from '@ensample/model-js';
import { createEngine, type DraftOption, type Engine, type ModelSource } from '@ensample/runtime';
import { promptLookup, siblingLookup } from '@ensample/spec-decode';
import type { Device } from '@ensample/tensor';
import { deviceArgs, openDevice } from '../device-args.ts';
import { settingOf, table, writeResult } from '../results.ts';
import { imposedAcceptance } from './imposed.ts';
import { prompt } from './prompt.ts';
import { randomSource } from './random-source.ts';
import { benchSpeculation, type SpeculationCase, type SpeculationRow } from './speculation.ts';

type Length = 'auto' | 'bass' | number;

/** Draft sources that the command knows. */
const drafts: Readonly<Record<string, (draftModel: ModelSource) => DraftOption>> = {
  model: (model) => model,
  prompt: () => promptLookup(),
  sibling: () => siblingLookup(),
  lookups: () => [promptLookup(), siblingLookup()],
  auto: () => 'auto',
};

function folderSource(folder: string): ModelSource {
  return modelSource(folder, diskFiles(folder), js22m().frame);
}

interface Args {
  readonly model: string;
  readonly draftModel: string;
  readonly shape?: string | undefined;
  readonly layers: string;
  readonly draftShape: string;
  readonly draftLayers: string;
  readonly imposed: string;
  readonly draft: string;
  readonly length: string;
  readonly rule: string;
  readonly prompt: string;
  readonly n: string;
  readonly maxTokens: string;
  readonly temperature: string;
  readonly repeats: string;
}

/** `bench speculation` */
export const speculation: SubCommandsDef[string] = defineCommand({
  meta: {
    name: 'speculation',
    description:
      'Rounds of speculation against plain decoding: js-22m, or random weights with imposed acceptance',
  },
  args: {
    ...deviceArgs,
    draftModel: {
      type: 'string',
      description: 'folder of the draft model',
      default: 'packages/model-js/models/js-1m-draft',
    },
    draft: { type: 'string', description: Object.keys(drafts).join(', '), default: 'model,lookups,auto' },
    length: { type: 'string', description: 'draft lengths: numbers, bass, auto', default: '2,4,7,bass,auto' },
    rule: { type: 'string', description: 'coupled or rejection', default: 'coupled' },
    n: { type: 'string', description: 'sample counts', default: '1,8' },
    maxTokens: { type: 'string', description: 'tokens of a sample', default: '128' },
    temperature: { type: 'string', description: 'of both models', default: '0.8' },
    repeats: { type: 'string', description: 'timed runs, each with its own seeds', default: '3' },
    shape: { type: 'string', description: 'random weights of a published shape: 7b, 8b-gqa' },
    layers: { type: 'string', description: 'layers of that shape', default: '4' },
    draftShape: { type: 'string', description: 'shape of the draft', default: '300m' },
    draftLayers: { type: 'string', description: 'layers of the draft', default: '8' },
    imposed: { type: 'string', description: 'acceptances to impose, with --shape', default: '0.6,0.8,0.9' },
    prompt: { type: 'string', description: 'tokens of the prompt, with --shape', default: '1024' },
  },
  async run({ args }) {
    const device = await openDevice(args);
    try {
      const rows = args.shape ? await benchShape(device, args.shape, args) : await benchModel(device, args);
      const setting = settingOf(device, args.device);
      const name = args.shape ? `${args.shape} × ${args.layers} layers, draft ${args.draftShape}` : 'js-22m';
      console.log(`${setting.device}, tier ${setting.tier}: ${name}`);
      console.log(table(rows.map(printed)));
      const file = `speculation-${args.shape ?? 'js-22m'}`;
      console.log(`written: ${await writeResult(args.results, file, setting, rows)}`);
    } finally {
      device.destroy();
    }
  },
});

async function benchModel(device: Device, args: Args): Promise<SpeculationRow[]> {
  const acceptance = args.rule === 'rejection' ? 'rejection' : 'coupled';
  const rows: SpeculationRow[] = [];
  for (const name of args.draft.split(',')) {
    const draft = drafts[name];
    if (!draft) throw new Error(`--draft ${name}: use ${Object.keys(drafts).join(', ')}`);
    const cases = lengthsOf(args).map((draftLength) => ({
      draft: `${name}, ${draftLength}`,
      options: { draftLength, acceptance } as const,
    }));
    const small = folderSource(args.draftModel);
    const model = { ...folderSource(args.model), draft: () => small };
    const engine = await createEngine({ device, model, draft: draft(small) });
    rows.push(
      ...(await benched(engine, engine.encode({ text: prompt, fileName: 'vector.js' }), cases, args)),
    );
  }
  return withoutRepeats(rows);
}

async function benchShape(device: Device, shape: string, args: Args): Promise<SpeculationRow[]> {
  const context = Number(args.prompt) + Number(args.maxTokens);
  const source = (name: string, layers: string): ModelSource => randomSource(name, Number(layers), context);
  const model = source(shape, args.layers);
  const engine = await createEngine({ device, model, draft: source(args.draftShape, args.draftLayers) });
  const cases = args.imposed.split(',').flatMap((right) =>
    lengthsOf(args).map((draftLength): SpeculationCase => {
      const imposed = Number(right);
      const options = { draftLength, acceptance: imposedAcceptance(imposed) };
      return { draft: `${right}, ${draftLength}`, options, imposed };
    }),
  );
  const tokens = Array.from({ length: Number(args.prompt) }, (_, i) => (i * 2654435761) % 32000);
  return benched(engine, tokens, cases, args);
}

async function benched(
  engine: Engine,
  tokens: readonly number[],
  cases: readonly SpeculationCase[],
  args: Args,
): Promise<SpeculationRow[]> {
  try {
    const run = { maxTokens: Number(args.maxTokens), temperature: Number(args.temperature) };
    const counts = { n: args.n.split(',').map(Number), repeats: Number(args.repeats) };
    return await benchSpeculation(engine, tokens, cases, { ...run, ...counts });
  } finally {
    engine.dispose();
  }
}

function lengthsOf({ length }: Args): Length[] {
  return length.split(',').map((text) => (text === 'auto' || text === 'bass' ? text : Number(text)));
}

/** Each engine has timed plain decoding: one line of it per n is enough. */
function withoutRepeats(rows: readonly SpeculationRow[]): SpeculationRow[] {
  return rows.filter(
    (row, i) =>
      row.draft !== 'plain' || rows.findIndex(({ draft, n }) => draft === 'plain' && n === row.n) === i,
  );
}

function printed(row: SpeculationRow): Record<string, string | number> {
  return {
    draft: row.draft,
    n: row.n,
    length: row.length.toFixed(1),
    acceptance: row.acceptance.toFixed(3),
    'tokens/round': row.tokensPerRound.toFixed(2),
    theory: row.theory?.toFixed(2) ?? '',
    'ms/token': row.msPerToken.toFixed(3),
    first: row.firstMsPerToken.toFixed(3),
    last: row.lastMsPerToken.toFixed(3),
    'tokens/s': row.tokensPerSecond.toFixed(0),
    'over plain': row.speedup.toFixed(2),
    same: row.same === undefined ? '' : `${(100 * row.same).toFixed(0)} %`,
  };
}
