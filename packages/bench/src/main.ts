#!/usr/bin/env node
import { defineCommand, runMain } from 'citty';
import { modelSource } from '@ensample/mixattn-model';
import { diskFiles } from '@ensample/mixattn-model/node';
import type { KernelTime, TierName } from '@ensample/tensor';
import { ablation } from './ablation/command.ts';
import { deviceArgs, openDevice } from './device-args.ts';
import { benchGolden, type GoldenRow } from './golden.ts';
import { gpu } from './gpu/command.ts';
import { pass } from './pass/command.ts';
import { quality, qualityText } from './quality/command.ts';
import { reportCommand } from './report/command.ts';
import { settingOf, table, writeResult } from './results.ts';
import { benchSamples, type SamplesRow } from './samples.ts';
import { speculation } from './speculation/command.ts';
import { syntheticDecoder } from './synthetic.ts';

const goldenModels = 'packages/model-js/models/js-1m-draft,packages/model-js/models/js-22m';

const samples = defineCommand({
  meta: {
    name: 'samples',
    description: 'A decode step of n samples: shared prompt read once, and read per sample',
  },
  args: {
    ...deviceArgs,
    prompt: { type: 'string', description: 'tokens of the shared prompt', default: '1024' },
    own: { type: 'string', description: 'tokens each sample has of its own', default: '8' },
    n: { type: 'string', description: 'sample counts', default: '1,2,4,8,16,32' },
    shape: {
      type: 'string',
      description: 'random weights of a published shape instead of a model: 7b, 8b-gqa',
    },
    layers: { type: 'string', description: 'layers of that shape', default: '4' },
    unchecked: { type: 'boolean', description: 'shaders do not check bounds (Node only)', default: false },
    chunk: { type: 'string', description: "keys in an attention task (default: the package's)" },
    profile: { type: 'boolean', description: 'µs per kernel of the largest shared step', default: false },
    repeats: { type: 'string', description: 'timed rounds; the median counts', default: '7' },
  },
  async run({ args }) {
    const device = await openDevice(args);
    try {
      const model = args.shape
        ? await syntheticDecoder(device, args.shape, Number(args.layers), Number(args.prompt) + 64)
        : (await modelSource('model', diskFiles(args.model)).load(device)).model;
      const rows = await benchSamples(device, model, {
        prompt: Number(args.prompt),
        own: Number(args.own),
        n: args.n.split(',').map(Number),
        repeats: Number(args.repeats),
        chunk: args.chunk ? Number(args.chunk) : undefined,
        onProfile: args.profile ? (times) => console.log(table(times.map(printedTime))) : undefined,
      });
      const setting = settingOf(device, args.device);
      const name = args.shape ? `${args.shape} × ${args.layers} layers` : args.model;
      console.log(`${setting.device}, tier ${setting.tier}: ${name}, prompt of ${args.prompt} tokens`);
      console.log(table(rows.map(printed)));
      console.log(
        `written: ${await writeResult(args.results, `samples-${args.shape ?? 'js-22m'}`, setting, rows)}`,
      );
      model.destroy();
    } finally {
      device.destroy();
    }
  },
});

const golden = defineCommand({
  meta: { name: 'golden', description: 'Models against their golden results, on every tier of the device' },
  args: {
    ...deviceArgs,
    model: { type: 'string', description: 'folders with golden.json', default: goldenModels },
  },
  async run({ args }) {
    const rows: GoldenRow[] = [];
    const tiers = args.tier ? [args.tier] : await tiersOf(args);
    for (const tier of tiers) {
      const device = await openDevice({ ...args, tier });
      try {
        for (const folder of args.model.split(',')) rows.push(...(await benchGolden(device, folder)));
        if (tier === tiers.at(-1))
          console.log(await writeResult(args.results, 'golden', settingOf(device, args.device), rows));
      } finally {
        device.destroy();
      }
    }
    console.log(table(rows.map((row) => ({ ...row, worst: row.worst.toExponential(1) }))));
  },
});

async function tiersOf(args: { adapter?: string | undefined }): Promise<TierName[]> {
  const device = await openDevice(args);
  const found = device.tiers;
  device.destroy();
  return [...found];
}

function printedTime({ name, count, microseconds }: KernelTime): Record<string, string | number> {
  return { kernel: name, count, µs: microseconds.toFixed(1), 'µs each': (microseconds / count).toFixed(2) };
}

function printed(row: SamplesRow): Record<string, string | number> {
  return {
    n: row.n,
    'shared ms': row.sharedMs.toFixed(3),
    'per sample ms': row.perSampleMs.toFixed(3),
    ratio: row.ratio.toFixed(3),
    'KV read, shared': `${(row.sharedBytes / 2 ** 20).toFixed(2)} MiB`,
    'per sample': `${(row.perSampleBytes / 2 ** 20).toFixed(2)} MiB`,
    difference: row.difference.toExponential(1),
  };
}

await runMain(
  defineCommand({
    meta: { name: 'bench', description: 'Benchmarks of Ensample' },
    subCommands: {
      ablation,
      golden,
      gpu,
      pass,
      quality,
      'quality-text': qualityText,
      report: reportCommand,
      samples,
      speculation,
    },
  }),
);
