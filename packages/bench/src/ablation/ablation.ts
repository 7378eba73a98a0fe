import type { Decoder } from '@ensample/mixattn-model';
import { isSoftware, type Device, type Recording } from '@ensample/tensor';
// Not from the package's index: that brings the test runner.
import type { DecoderRun } from '@ensample/testing/decoder-run';
import { median } from '../results.ts';
import { fillSamples, type RaggedSample, type RaggedShape } from './ragged.ts';
import { recordSteps, type VerifyStep } from './verify-step.ts';

/** Options of {@link benchAblation}. */
export interface AblationOptions extends RaggedShape {
  /** Timed rounds; the median is reported. */
  readonly repeats: number;
}

/** One line of the table: a verify step done one way. */
export interface AblationRow {
  /** Whether attention reads the prompt once for all samples, or for each sample as BASS does. */
  readonly prompt: 'shared' | 'per sample';
  readonly way: VerifyStep['way'];
  /** Milliseconds of the whole step. */
  readonly ms: number;
  /** Milliseconds of the attention of all layers. */
  readonly attentionMs: number;
  /** Dispatches of the step. */
  readonly dispatches: number;
  /** KV bytes that attention reads in the step. */
  readonly kvBytes: number;
  /** 1 − mean(L) / max(L) of the lengths that PAD makes equal: without the prompt where that is shared. */
  readonly padWaste: number;
  /** `ms` as a multiple of ours. */
  readonly ratio: number;
  /** `attentionMs` as a multiple of ours. */
  readonly attentionRatio: number;
  /** Largest difference of logits from ours, relative to the largest logit. */
  readonly difference: number;
  /** Tokens that each sample has stored, the prompt included. */
  readonly lengths: readonly number[];
}

/** Logits of two ways may differ by this much: they add up in another order. */
const agreement = { f32: 1e-4, f16: 2e-2 };

/**
 * The same verify step of samples with different lengths, attended in one dispatch for all lengths (ours), with a
 * dispatch per sample (BASS-SPLIT), and padded to the longest (BASS-PAD); with the prompt read once, and read by each
 * sample. Same weights, same cache, same kernels but for PAD's bound. Refuses to time results that disagree.
 */
export async function benchAblation(
  device: Device,
  decoder: Decoder,
  run: DecoderRun,
  options: AblationOptions,
): Promise<AblationRow[]> {
  const samples = await fillSamples(run, decoder, options);
  const steps: VerifyStep[] = [];
  try {
    steps.push(...(await recordSteps({ device, decoder, cache: run.cache, samples })));
    const differences = await compare(device, steps, agreement[run.cache.dtype]);
    const whole = await timeAll(device, steps, ({ recording }) => recording, options.repeats);
    const attention = await timeAll(device, steps, (step) => step.attention, options.repeats);
    return toRows(steps, samples, { differences, whole, attention }, options);
  } finally {
    for (const step of steps) step.destroy();
    for (const { sequence } of samples) sequence.release();
  }
}

/** @throws Error when a step's logits are not those of the first. */
async function compare(device: Device, steps: readonly VerifyStep[], allowed: number): Promise<number[]> {
  const results: Float32Array[] = [];
  for (const { recording, logits } of steps) {
    recording.submit();
    results.push(await device.read(logits));
  }
  const [first = new Float32Array()] = results;
  const scale = first.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return results.map((result, i) => {
    const worst = first.reduce((most, value, j) => Math.max(most, Math.abs(value - (result[j] ?? NaN))), 0);
    const difference = worst / scale;
    if (!(difference <= allowed)) {
      throw new Error(
        `${steps[i]?.way ?? ''} differs from ours by ${difference} (allowed: ${allowed}); nothing was timed`,
      );
    }
    return difference;
  });
}

/** Median milliseconds of each step. They run in turns, with another first in each round, so that all see the same weather. */
async function timeAll(
  device: Device,
  steps: readonly VerifyStep[],
  recordingOf: (step: VerifyStep) => Recording,
  repeats: number,
): Promise<number[]> {
  const times = steps.map((): number[] => []);
  const warmUps = 2;
  for (let round = 0; round < repeats + warmUps; round++) {
    for (let turn = 0; turn < steps.length; turn++) {
      const i = (round + turn) % steps.length;
      const step = steps[i];
      if (!step) continue;
      const ms = await time(device, recordingOf(step));
      if (round >= warmUps) times[i]?.push(ms);
    }
  }
  return times.map(median);
}

/** Milliseconds from submission to completion; several steps a submission where they are short. */
async function time(device: Device, recording: Recording): Promise<number> {
  const { queue } = device.gpu;
  const steps = isSoftware(device.info) ? 1 : 20;
  const encoder = device.gpu.createCommandEncoder();
  for (let i = 0; i < steps; i++) recording.encode(encoder);
  const commands = encoder.finish();
  const began = performance.now();
  queue.submit([commands]);
  await queue.onSubmittedWorkDone();
  return (performance.now() - began) / steps;
}

/** What was measured, one value per step. */
interface Measured {
  readonly differences: readonly number[];
  readonly whole: readonly number[];
  readonly attention: readonly number[];
}

function toRows(
  steps: readonly VerifyStep[],
  samples: readonly RaggedSample[],
  { differences, whole, attention }: Measured,
  { prompt, draft }: AblationOptions,
): AblationRow[] {
  const lengths = samples.map(({ sequence }) => sequence.length);
  const rows = steps.map((step, i): AblationRow => {
    const ours = steps.findIndex(({ way, reading }) => way === 'ours' && reading === step.reading);
    const padded = lengths.map((length) => length + draft + 1 - (step.reading === 'shared' ? prompt : 0));
    return {
      prompt: step.reading === 'shared' ? 'shared' : 'per sample',
      way: step.way,
      ms: whole[i] ?? NaN,
      attentionMs: attention[i] ?? NaN,
      dispatches: step.recording.length,
      kvBytes: step.kvBytes,
      padWaste: 1 - padded.reduce((sum, length) => sum + length, 0) / padded.length / Math.max(...padded),
      ratio: (whole[i] ?? NaN) / (whole[ours] ?? NaN),
      attentionRatio: (attention[i] ?? NaN) / (attention[ours] ?? NaN),
      difference: differences[i] ?? NaN,
      lengths,
    };
  });
  return (['shared', 'per sample'] as const).flatMap((reading) =>
    rows.filter((row) => row.prompt === reading),
  );
}
