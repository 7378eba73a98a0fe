import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { modelSource } from '@ensample/mixattn-model';
import { diskFiles } from '@ensample/mixattn-model/node';
import type { Device } from '@ensample/tensor';
// Not from the package's index: that brings the test runner.
import { DecoderRun } from '@ensample/testing/decoder-run';
import { checkGolden, goldenTolerance, type GoldenCase } from '@ensample/testing/golden';

/** One line of the table: a model on a tier against its golden results. */
export interface GoldenRow {
  readonly model: string;
  readonly tier: string;
  readonly kv: string;
  /** Sequences decoded together. */
  readonly sequences: number;
  /** Largest deviation of a logit or log-sum-exp. */
  readonly worst: number;
  /** Near ties that went the other way, as case:step. */
  readonly ties: string;
}

/** Checks a model folder against its golden.json with all cases in one batch, three, and one: all row regimes. */
export async function benchGolden(device: Device, folder: string): Promise<GoldenRow[]> {
  const { cases } = JSON.parse(await readFile(join(folder, 'golden.json'), 'utf8')) as {
    cases: GoldenCase[];
  };
  const { model } = await modelSource(folder, diskFiles(folder)).load(device);
  const run = new DecoderRun(device, model);
  const rows: GoldenRow[] = [];
  try {
    for (const count of [cases.length, 3, 1]) {
      const { worst, ties } = await checkGolden(run, cases.slice(0, count), goldenTolerance[run.cache.dtype]);
      const name = folder.split('/').at(-1) ?? folder;
      rows.push({
        model: name,
        tier: device.tier.name,
        kv: run.cache.dtype,
        sequences: count,
        worst,
        ties: ties.join(' '),
      });
    }
    return rows;
  } finally {
    run.destroy();
    model.destroy();
  }
}
