import { Attention, type Tiling } from '@ensample/bifurcated-attn';
import type { KvCache, RowPlace, Sequence } from '@ensample/kv-cache';
import type { Decoder } from '@ensample/mixattn-model';
import { createBatch, Recorder, type Device, type GpuTensor, type Recording } from '@ensample/tensor';

/** A model and the cache that its steps read and write. */
export interface Running {
  readonly device: Device;
  readonly decoder: Decoder;
  readonly cache: KvCache;
}

/** What a step does. */
export interface StepOptions {
  /** New tokens of each sequence. Default 1. */
  readonly tokens?: number;
  /** Who reads a shared segment. Default `'shared'`. */
  readonly reading?: Tiling['reading'];
  /** Keys in an attention task; default: the package's. */
  readonly chunk?: number | undefined;
}

/** A recorded step. */
export interface Step {
  readonly recording: Recording;
  readonly attention: Attention;
  /** `[rows, vocab]` */
  readonly logits: GpuTensor<'f32'>;
  destroy(): void;
}

/** Any tokens do: what is timed does not depend on them. */
function token(position: number, vocab: number): number {
  return 5 + ((position * 2654435761) % (vocab - 5));
}

/** The batch of a step with `tokens` new tokens of each sequence. */
export function batchWords(
  sequences: readonly Sequence[],
  places: readonly RowPlace[],
  { tokens, vocab }: { readonly tokens: number; readonly vocab: number },
): Uint32Array<ArrayBuffer> {
  const rows = sequences.length * tokens;
  const words = new Uint32Array(4 * (1 + rows));
  words[0] = rows;
  places.forEach(({ firstRow, leaf }, i) => {
    const start = sequences[i]?.length ?? 0;
    for (let j = 0; j < tokens; j++) {
      // Samples differ in their tokens from the first on.
      const entry = [token(start + j + 7919 * i, vocab), start + j, leaf, i];
      words.set(entry, 4 * (1 + firstRow + j));
    }
  });
  return words;
}

/** Records a step with new tokens of each sequence, which must be reserved. Nothing is committed: it can be repeated. */
export async function recordStep(
  { device, decoder, cache }: Running,
  sequences: readonly Sequence[],
  { tokens = 1, reading = 'shared', chunk }: StepOptions = {},
): Promise<Step> {
  const { heads, vocabSize } = decoder.config;
  const rows = sequences.length * tokens;
  const attention = new Attention(cache, { heads, reading, ...(chunk ? { chunk } : {}) });
  const places = attention.update(sequences.map((sequence) => ({ sequence, rows: tokens })));
  const batch = createBatch(device, rows);
  device.write(batch, batchWords(sequences, places, { tokens, vocab: vocabSize }));
  const logits = device.tensor('f32', [rows, vocabSize]);
  const activations = decoder.activations(rows);
  const recorder = new Recorder(device);
  decoder.forward(recorder, { batch, attention, activations, rows, logits });
  const recording = await recorder.finish();
  const destroy = () => [attention, batch, logits, activations].forEach((owned) => owned.destroy());
  return { recording, attention, logits, destroy };
}

/** Logits of both ways of reading may differ by this much: they add up in another order. */
const agreement = { f32: 1e-4, f16: 2e-2 };

/**
 * Runs a step read both ways.
 * @returns the largest difference of logits, relative to the largest logit
 * @throws Error where they disagree
 */
export async function compareReadings(
  { device, cache }: Running,
  shared: Step,
  perSample: Step,
  what: string,
): Promise<number> {
  const results: Float32Array[] = [];
  for (const step of [shared, perSample]) {
    step.recording.submit();
    results.push(await device.read(step.logits));
  }
  const [a = new Float32Array(), b = new Float32Array()] = results;
  const scale = a.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  let worst = 0;
  a.forEach((value, i) => (worst = Math.max(worst, Math.abs(value - (b[i] ?? NaN)) / scale)));
  const allowed = agreement[cache.dtype];
  if (!(worst <= allowed)) {
    throw new Error(
      `${what}: shared and per-sample reading differ by ${worst} (allowed: ${allowed}); nothing was timed`,
    );
  }
  return worst;
}
