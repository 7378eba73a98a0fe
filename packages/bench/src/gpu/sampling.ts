import { createBatch, Recorder } from '@ensample/tensor';
import { median } from '../results.ts';
import type { Bench, GpuOptions, Job } from './bench.ts';
import { gpuTime } from './clock.ts';
import { benchDecode, type DecodeCase } from './decode.ts';
import { draw } from './draw.ts';
import { Round } from './round.ts';

const n = 16;
/** Rounds that a timed submission has. */
const rounds = 16;
const start = 64;

/** What drawing tokens takes, beside the first shape's step. */
export function samplingJobs({ shapes, weights, contexts }: GpuOptions): Job[] {
  const [shape, format, context] = [shapes[0], weights[0], contexts[0]];
  if (!shape || !format || !context) return [];
  const one = { shape, weights: format, context, n: [n] };
  return [{ name: 'sampling', rank: 5, run: (bench) => benchSampling(bench, one) }];
}

/** Times penalties, draw and acceptance of n samples, as a round of the engine has them. */
async function benchSampling(bench: Bench, step: DecodeCase): Promise<void> {
  const { device, options, report } = bench;
  const { vocab } = options;
  const { shape, weights, context } = step;
  const known = () => report.find({ section: 'decode', shape, weights, context, n })?.['ms'];
  if (known() === undefined) await benchDecode(bench, step);
  const stepMs = known() as number;
  const tokens = rounds * (options.repeats + 1) + 1;
  const leaves = Array.from({ length: n }, () => 0);
  const round = new Round(device, { n, vocab, start, tokens, leaves });
  const batch = createBatch(device, n);
  const logits = device.tensor('f32', [n, vocab]);
  try {
    await draw(device, [{ tensor: logits, values: 'f32', size: 8, seed: 3 }]);
    const recorder = new Recorder(device);
    round.layOut(recorder, batch);
    round.draw(recorder, batch, logits, true);
    const recording = await recorder.finish();
    const times: number[] = [];
    for (let i = 0; i <= options.repeats; i++) {
      const ms = await gpuTime(device, (encoder) => {
        for (let j = 0; j < rounds; j++) recording.encode(encoder);
      });
      if (i > 0) times.push(ms);
    }
    const us = (1e3 * median(times)) / rounds;
    await report.add({ section: 'sampling', vocab, n, us, stepMs, share: us / 1e3 / stepMs });
  } finally {
    for (const owned of [round, batch, logits]) owned.destroy();
  }
}
