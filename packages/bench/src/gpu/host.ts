import type { Decoder } from '@ensample/mixattn-model';
import { Attention } from '@ensample/bifurcated-attn';
import { status } from '@ensample/spec-decode';
import { createBatch, Recorder, type Device, type GpuTensor, type Recording } from '@ensample/tensor';
import { median } from '../results.ts';
import type { Running } from '../step.ts';
import type { DrawnFormat } from '../synthetic.ts';
import type { Bench, GpuOptions, Job } from './bench.ts';
import { Stamps } from './clock.ts';
import { withPrompt } from './decode.ts';
import { engineOf } from './prefill.ts';
import type { Row } from './report.ts';
import { Round } from './round.ts';

/** Rounds that are timed, after some that warm up. */
const rounds = 40;
const warm = 8;
const all = rounds + warm;
/** The engine has as many in flight. */
const inFlight = 2;

/** Rounds of the first shape and format, with the shortest prompt: there a late host shows first. */
export function hostJobs({ shapes, weights, contexts, n = [16, 1] }: GpuOptions): Job[] {
  const [shape, format] = [shapes[0], weights[0]];
  if (!shape || !format) return [];
  const context = Math.min(...contexts);
  return n.map((samples, i) => ({
    name: `host ${shape} n = ${samples}`,
    rank: 4 + i / 100,
    run: (bench) => benchHost(bench, { shape, weights: format, context, n: samples }),
  }));
}

interface HostCase {
  readonly shape: string;
  readonly weights: DrawnFormat;
  readonly context: number;
  readonly n: number;
}

/**
 * Times what the host does for a round of decoding (encoding and submission of all dispatches, draws included) and how
 * long the GPU waits for it between two rounds; and the engine itself, per token, with all that it does besides.
 */
async function benchHost(bench: Bench, one: HostCase): Promise<void> {
  const { shape, weights, context, n } = one;
  const decoder = await bench.models.get(shape, weights);
  const layers = decoder.config.layers.length;
  const leafTokens = all + 1;
  let row: Row = { section: 'host', shape, weights, context, layers, n };
  await withPrompt(bench, decoder, { context, n, leafTokens }, async (running, prompt) => {
    const leaves = Array.from({ length: n }, () => prompt.fork());
    for (const leaf of leaves) leaf.reserve(leafTokens);
    const attention = new Attention(running.cache, { heads: decoder.config.heads });
    const places = attention.update(leaves.map((sequence) => ({ sequence, rows: 1 })));
    const order = [...places].sort((a, b) => a.firstRow - b.firstRow).map(({ leaf }) => leaf);
    const shapeOfRound = { n, vocab: decoder.config.vocabSize, start: context + 1, tokens: leafTokens };
    const round = new Round(bench.device, { ...shapeOfRound, leaves: order });
    try {
      row = { ...row, ...(await timeRounds(running, attention, round, n)) };
    } finally {
      for (const owned of [attention, round]) owned.destroy();
      for (const leaf of leaves) leaf.release();
    }
  });
  await bench.report.add({ ...row, engineMs: await engineTime(bench, decoder, one) });
}

async function timeRounds(
  { device, decoder }: Running,
  attention: Attention,
  round: Round,
  n: number,
): Promise<{ dispatches: number; jsMs: number; submitMs: number; gpuMs: number; idleMs: number }> {
  const batch = createBatch(device, n);
  const activations = decoder.activations(n);
  const logits = device.tensor('f32', [n, decoder.config.vocabSize]);
  try {
    const recorder = new Recorder(device);
    round.layOut(recorder, batch);
    decoder.forward(recorder, { batch, attention, activations, rows: n, logits });
    round.draw(recorder, batch, logits, false);
    const recording = await recorder.finish();
    const stamps = device.gpu.features.has('timestamp-query') ? new Stamps(device, 2 * all) : undefined;
    const hosted = await runRounds(device, recording, round.results, stamps);
    const times = (await stamps?.read()) ?? [];
    stamps?.destroy();
    const [, , last] = await device.read(round.results);
    if (last !== status.running) throw new Error('samples stopped while their rounds were timed');
    const [jsMs, submitMs] = [median(hosted.map(({ js }) => js)), median(hosted.map(({ submit }) => submit))];
    return { dispatches: recording.length, jsMs, submitMs, ...gaps(times) };
  } finally {
    for (const owned of [batch, activations, logits]) owned.destroy();
  }
}

/** Milliseconds of the host for a round: all, and of these in `submit`, where the driver gets its commands. */
interface HostTime {
  readonly js: number;
  readonly submit: number;
}

/** Submits rounds as the engine does, each before the one before it was read. */
async function runRounds(
  device: Device,
  recording: Recording,
  results: GpuTensor<'u32'>,
  stamps: Stamps | undefined,
): Promise<HostTime[]> {
  const { gpu } = device;
  const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
  const ring = Array.from({ length: inFlight + 1 }, () => device.tensor('u32', results.shape, usage));
  const pending: Promise<void>[] = [];
  const times: HostTime[] = [];
  for (let i = 0; i < all; i++) {
    const { buffer } = ring[i % ring.length] as GpuTensor<'u32'>;
    const began = performance.now();
    const encoder = gpu.createCommandEncoder();
    stamps?.before(encoder, 2 * i);
    recording.encode(encoder);
    encoder.copyBufferToBuffer(results.buffer, 0, buffer, 0, results.byteLength);
    stamps?.after(encoder, 2 * i + 1);
    const commands = encoder.finish();
    const encoded = performance.now();
    gpu.queue.submit([commands]);
    const submitted = performance.now();
    if (i >= warm) times.push({ js: submitted - began, submit: submitted - encoded });
    pending.push(buffer.mapAsync(GPUMapMode.READ).then(() => buffer.unmap()));
    if (pending.length >= inFlight) await pending.shift();
  }
  await Promise.all(pending);
  for (const tensor of ring) tensor.destroy();
  return times;
}

/** Of timestamps before and after each round: what a round takes (median), and the gap to the next (mean); NaN without. */
function gaps(times: readonly number[]): { gpuMs: number; idleMs: number } {
  const timed = Array.from({ length: rounds - 1 }, (_, i) => 2 * (warm + i));
  const at = (index: number) => times[index] ?? NaN;
  // A round may begin before the one before it has ended, as far as the GPU's front end is concerned.
  const idle = timed.map((i) => Math.max(0, at(i + 2) - at(i + 1)));
  const spans = timed.map((i) => at(i + 1) - Math.max(at(i), i > 0 ? at(i - 1) : 0));
  return { gpuMs: median(spans), idleMs: idle.reduce((sum, ms) => sum + ms, 0) / idle.length };
}

/** Milliseconds a token of the engine's plain decoding. */
async function engineTime(bench: Bench, decoder: Decoder, { context, n }: HostCase): Promise<number> {
  const { vocabSize } = decoder.config;
  const engine = await engineOf(bench, decoder);
  try {
    const prompt = Array.from({ length: context }, (_, i) => (i * 2654435761) % vocabSize);
    const session = await engine.prefill(prompt);
    const run = { n, maxTokens: rounds, seed: 1, ignoreEos: true, rank: 'none', draftLength: 0 } as const;
    await session.generate(run);
    const { stats } = await session.generate(run);
    session.dispose();
    return stats.decodeMs / stats.steps;
  } finally {
    engine.dispose();
  }
}
