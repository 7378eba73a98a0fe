import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Device } from '@ensample/tensor';
import {
  checkGolden,
  DecoderRun,
  goldenTolerance,
  type GoldenCase,
  type GoldenReport,
} from '@ensample/testing';
import { diskFiles } from '../src/node.ts';
import { modelSource } from '../src/index.ts';

/** What to compare of a golden.json. */
interface Extent {
  /** Leave out longer prompts. Default: none. */
  readonly longest?: number;
  /** Greedy tokens to decode at most. Default: all. */
  readonly steps?: number;
}

/** Compares the model in a folder with its golden.json on a device. */
export async function golden(
  device: Device,
  folder: string,
  { longest = Infinity, steps = Infinity }: Extent = {},
): Promise<GoldenReport> {
  const { cases } = JSON.parse(readFileSync(join(folder, 'golden.json'), 'utf8')) as { cases: GoldenCase[] };
  const chosen = cases.filter(({ ids }) => ids.length <= longest);
  const { model } = await modelSource(folder, diskFiles(folder)).load(device);
  const run = new DecoderRun(device, model);
  try {
    return await checkGolden(run, chosen, goldenTolerance[device.tier.kv], steps);
  } finally {
    run.destroy();
    model.destroy();
  }
}

/** A model of this repository. */
export function packaged(name: string): string {
  return join(import.meta.dirname, '../../model-js/models', name);
}
