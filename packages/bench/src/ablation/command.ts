import { basename } from 'node:path';
import { defineCommand, type SubCommandsDef } from 'citty';
import { modelSource } from '@ensample/mixattn-model';
import { diskFiles } from '@ensample/mixattn-model/node';
// Not from the package's index: that brings the test runner.
import { DecoderRun } from '@ensample/testing/decoder-run';
import { deviceArgs, openDevice } from '../device-args.ts';
import { settingOf, table, writeResult } from '../results.ts';
import { syntheticDecoder } from '../synthetic.ts';
import { benchAblation, type AblationRow } from './ablation.ts';

/** `bench ablation`: BASS-PAD and BASS-SPLIT beside our one dispatch for all lengths. */
export const ablation: SubCommandsDef[string] = defineCommand({
  meta: {
    name: 'ablation',
    description: 'A verify step of samples of different lengths: ours, a dispatch per sample, padded',
  },
  args: {
    ...deviceArgs,
    prompt: { type: 'string', description: 'tokens of the shared prompt', default: '512' },
    n: { type: 'string', description: 'samples', default: '8' },
    draft: { type: 'string', description: 'tokens of a draft; each sample has one row more', default: '7' },
    own: { type: 'string', description: 'most tokens that a sample has of its own', default: '256' },
    spread: { type: 'string', description: 'the shortest has own / spread', default: '4' },
    seed: { type: 'string', description: 'draws the lengths', default: '1' },
    shape: {
      type: 'string',
      description: 'random weights of a published shape instead of a model: 7b, 8b-gqa',
    },
    layers: { type: 'string', description: 'layers of that shape', default: '4' },
    repeats: { type: 'string', description: 'timed rounds; the median counts', default: '7' },
  },
  async run({ args }) {
    const { prompt, n, draft, own, spread, seed, repeats } = args;
    const numbers = { prompt, n, draft, own, spread, seed, repeats };
    const options = Object.fromEntries(
      Object.entries(numbers).map(([name, value]) => [name, Number(value)]),
    ) as Record<keyof typeof numbers, number>;
    const device = await openDevice(args);
    try {
      const context = options.prompt + options.own + options.draft + 1;
      const model = args.shape
        ? await syntheticDecoder(device, args.shape, Number(args.layers), context)
        : (await modelSource('model', diskFiles(args.model)).load(device)).model;
      const run = new DecoderRun(device, model);
      const rows = await benchAblation(device, model, run, options);
      const setting = settingOf(device, args.device);
      const name = args.shape ? `${args.shape} × ${args.layers} layers` : args.model;
      console.log(
        `${setting.device}, tier ${setting.tier}: ${name}, prompt of ${prompt} tokens, draft of ${draft}`,
      );
      console.log(`stored, prompt included: ${rows[0]?.lengths.join(', ') ?? ''} tokens`);
      console.log(table(rows.map(printed)));
      const file = `ablation-${args.shape ?? basename(args.model)}`;
      console.log(`written: ${await writeResult(args.results, file, setting, rows)}`);
      run.destroy();
      model.destroy();
    } finally {
      device.destroy();
    }
  },
});

function printed(row: AblationRow): Record<string, string | number> {
  return {
    prompt: row.prompt,
    way: row.way,
    'ms per step': row.ms.toFixed(3),
    'to ours': row.ratio.toFixed(3),
    'attention ms': row.attentionMs.toFixed(3),
    'to ours, attention': row.attentionRatio.toFixed(3),
    dispatches: row.dispatches,
    'KV read': `${(row.kvBytes / 2 ** 20).toFixed(2)} MiB`,
    'PAD waste': row.way === 'BASS-PAD' ? `${(100 * row.padWaste).toFixed(1)} %` : '',
    difference: row.difference.toExponential(1),
  };
}
