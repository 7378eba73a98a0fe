import { Attention } from '@ensample/bifurcated-attn';
import type { KvCache, RowPlace } from '@ensample/kv-cache';
import type { Decoder } from '@ensample/mixattn-model';
import {
  createBatch,
  Recorder,
  type Device,
  type GpuTensor,
  type Pass,
  type Recording,
} from '@ensample/tensor';
import { kvBytes } from './plan-words.ts';
import type { RaggedSample } from './ragged.ts';
import { ways, type Attending, type PlannedStep, type Way } from './ways.ts';

/** What all ways work on. */
export interface Verified {
  readonly device: Device;
  readonly decoder: Decoder;
  readonly cache: KvCache;
  readonly samples: readonly RaggedSample[];
}

/** A verify step recorded one way: the rows of all samples through the whole model. */
export interface VerifyStep {
  readonly way: Way['name'];
  readonly reading: PlannedStep['reading'];
  readonly recording: Recording;
  /** Of the step only the attention of all layers. */
  readonly attention: Recording;
  /** `[rows, vocab]` */
  readonly logits: GpuTensor<'f32'>;
  /** For each sample, where its rows are. */
  readonly places: readonly RowPlace[];
  /** KV bytes that attention reads. */
  readonly kvBytes: number;
  destroy(): void;
}

const attentionKernels: readonly string[] = ['attend', 'merge'];

/** Records the step for each way and each reading of the prompt. */
export async function recordSteps(verified: Verified): Promise<VerifyStep[]> {
  const steps: VerifyStep[] = [];
  for (const way of ways) {
    for (const reading of ['shared', 'per-sequence'] as const)
      steps.push(await recordStep(verified, way, reading));
  }
  return steps;
}

/**
 * Records a verify step. The rows' tokens are those after what each sample has stored; nothing is committed, so that
 * steps can be recorded many ways and repeated.
 */
async function recordStep(
  { device, decoder, cache, samples }: Verified,
  way: Way,
  reading: PlannedStep['reading'],
): Promise<VerifyStep> {
  way.reserve(samples);
  const { heads, kvHeads, vocabSize } = decoder.config;
  const attention = new Attention(cache, { heads, reading });
  const places = attention.update(
    samples.map(({ sequence, tokens }) => ({ sequence, rows: tokens.length - sequence.length })),
  );
  const { plan } = attention;
  const words = await device.read(plan);
  const share = heads / kvHeads;
  const attending = way.prepare({ device, cache, plan, words, samples, places, share, reading });
  const { batch, positions } = writeBatch(device, samples, places);
  const rows = positions.length;
  const logits = device.tensor('f32', [rows, vocabSize]);
  const activations = decoder.activations(rows);
  const step = { batch, attention, activations, rows, logits };
  const whole = new Recorder(device);
  decoder.forward(attendingBy(whole, attending), step);
  const part = new Recorder(device);
  decoder.forward(attendingBy(only(part, attentionKernels), attending), step);
  const owned = [attention, attending, batch, logits, activations];
  return {
    way: way.name,
    reading,
    recording: await whole.finish(),
    attention: await part.finish(),
    logits,
    places,
    kvBytes: kvBytes(attending.lists, cache, positions),
    destroy: () => owned.forEach((one) => one.destroy()),
  };
}

function writeBatch(device: Device, samples: readonly RaggedSample[], places: readonly RowPlace[]) {
  const rows = samples.reduce((sum, { sequence, tokens }) => sum + tokens.length - sequence.length, 0);
  const words = new Uint32Array(4 * (1 + rows));
  const positions = new Array<number>(rows).fill(0);
  words[0] = rows;
  samples.forEach(({ sequence: { length }, tokens }, i) => {
    const { firstRow = 0, leaf = 0 } = places[i] ?? {};
    tokens.slice(length).forEach((token, j) => {
      words.set([token, length + j, leaf, i], 4 * (1 + firstRow + j));
      positions[firstRow + j] = length + j;
    });
  });
  const batch = createBatch(device, rows);
  device.write(batch, words);
  return { batch, positions };
}

/** A pass in which a way runs attention. */
function attendingBy(pass: Pass, way: Attending): Pass {
  return {
    device: pass.device,
    run: (kernel, tensors, grid) => {
      if (kernel.name === 'attend') way.attend(pass, { kernel, tensors, grid });
      else pass.run(kernel, tensors, grid);
    },
  };
}

/** A pass that leaves out all other kernels. */
function only(pass: Pass, names: readonly string[]): Pass {
  return {
    device: pass.device,
    run: (kernel, tensors, grid) => {
      if (names.includes(kernel.name)) pass.run(kernel, tensors, grid);
    },
  };
}
