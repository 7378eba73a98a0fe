import { defineCommand, type SubCommandsDef } from 'citty';
import { modelSource, type QuantizedFormat } from '@ensample/mixattn-model';
import { diskFiles } from '@ensample/mixattn-model/node';
import { InvalidOptionError, isSoftware, type Device } from '@ensample/tensor';
import { deviceArgs, openDevice } from '../device-args.ts';
import { settingOf, table, writeResult } from '../results.ts';
import { defaultData, readData, writeData } from './data.ts';
import { LossRun } from './loss-run.ts';
import { textPackages } from './packages.ts';
import { measureQuality, type Quality } from './quality.ts';
import { mostRows } from './rows.ts';
import { encodeSources, formatSources, type SourceFile } from './text.ts';

/** A model in one format of its weights. */
interface QualityRow extends Quality {
  readonly model: string;
  /** As stored, or made at load. */
  readonly weights: 'stored' | QuantizedFormat;
  readonly tokens: number;
  readonly windows: number;
  readonly length: number;
}

interface Args {
  readonly windows?: string | undefined;
  readonly length: string;
}

const data = {
  type: 'string',
  description: 'the text; made from npm packages where the file is missing',
  default: defaultData,
} as const;

/** `bench quality` */
export const quality: SubCommandsDef[string] = defineCommand({
  meta: {
    name: 'quality',
    description: 'Loss by position, and of copies by distance, on source text that js-22m was not trained on',
  },
  args: {
    ...deviceArgs,
    data,
    model: {
      type: 'string',
      description: 'Hugging Face folders (default: js-22m, and the folder in ENSAMPLE_TWIN)',
    },
    weights: { type: 'string', description: 'stored, int8, int4', default: 'stored,int4' },
    windows: { type: 'string', description: 'rows of text for each figure (default: 112, on a CPU 2)' },
    length: { type: 'string', description: 'tokens of a row', default: '2048' },
  },
  async run({ args }) {
    const sources = await readData(args.data);
    const device = await openDevice(args);
    try {
      const setting = settingOf(device, args.device);
      console.log(
        `${setting.device}, tier ${setting.tier}: ${sources.length} source files from ${args.data}`,
      );
      const rows: QualityRow[] = [];
      const notes: string[] = [];
      for (const folder of args.model?.split(',') ?? defaultModels()) {
        const formats = args.weights.split(',') as QualityRow['weights'][];
        const own: QualityRow[] = [];
        for (const weights of formats) {
          own.push(await qualityRow(device, folder, weights, sources, args));
          console.log(`measured: ${folder}, ${weights}`);
        }
        rows.push(...own);
        notes.push(...comparisons(own));
      }
      console.log(table(rows.map(printed)));
      for (const note of notes) console.log(note);
      console.log(`written: ${await writeResult(args.results, 'quality', setting, rows)}`);
    } finally {
      device.destroy();
    }
  },
});

/** `bench quality-text` */
export const qualityText: SubCommandsDef[string] = defineCommand({
  meta: { name: 'quality-text', description: 'Makes the text of `quality`, for a host without network' },
  args: { data },
  async run({ args }) {
    const sources = await writeData(args.data);
    const { length } = Buffer.from(formatSources(sources));
    console.log(
      `${args.data}: ${length} bytes, ${sources.length} source files of ${textPackages.length} packages`,
    );
  },
});

function defaultModels(): string[] {
  const twin = process.env['ENSAMPLE_TWIN'];
  if (!twin) console.log('js-22m-standard is left out: set ENSAMPLE_TWIN to its folder');
  return [deviceArgs.model.default, ...(twin ? [twin] : [])];
}

async function qualityRow(
  device: Device,
  folder: string,
  weights: QualityRow['weights'],
  sources: readonly SourceFile[],
  args: Args,
): Promise<QualityRow> {
  const source = modelSource(folder, diskFiles(folder));
  const { model, tokenizer } = await source.load(device, weights === 'stored' ? {} : { weights });
  const text = encodeSources(sources, tokenizer, model.config);
  const length = Math.min(integer('length', args.length), model.config.contextLength);
  const asked = integer('windows', args.windows ?? (isSoftware(device.info) ? '2' : '112'));
  const count = Math.min(asked, mostRows(text.tokens, length));
  const run = new LossRun(device, model, length + 1);
  try {
    const measured = await measureQuality(run, text, { length, count });
    const name = folder.replace(/\/$/, '').split('/').at(-1) ?? folder;
    return { model: name, weights, tokens: text.tokens.length, windows: count, length, ...measured };
  } finally {
    run.destroy();
    model.destroy();
  }
}

function integer(name: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new InvalidOptionError(`--${name} is ${text}: it must be an integer from 1 on`);
}

function printed(row: QualityRow): Record<string, string | number> {
  const { model, weights, windows, loss, perplexity, bitsPerByte, byPosition, copies, unseen } = row;
  return {
    model,
    weights,
    windows,
    loss: loss.mean.toFixed(3) + (windows > 1 ? ` ± ${loss.error.toFixed(3)}` : ''),
    perplexity: perplexity.toFixed(2),
    'bits/byte': bitsPerByte.toFixed(3),
    ...Object.fromEntries(byPosition.map((band) => [`${band.from}–${band.to}`, band.loss.mean.toFixed(2)])),
    ...Object.fromEntries(copies.map((copy) => [`copy ${copy.gap}`, copy.loss.mean.toFixed(2)])),
    unseen: unseen.mean.toFixed(2),
  };
}

/** Perplexity of each format of one model against the stored one. */
function comparisons(rows: readonly QualityRow[]): string[] {
  const stored = rows.find(({ weights }) => weights === 'stored');
  return rows.flatMap(({ model, weights, perplexity }) => {
    if (!stored || weights === 'stored') return [];
    return [
      `${model}: perplexity of ${weights} against stored weights × ${(perplexity / stored.perplexity).toFixed(4)}`,
    ];
  });
}
