import { UnsupportedFeatureError } from './errors.ts';
import type { Recording } from './pass.ts';

/** Time of all dispatches of one kernel in a recording. */
export interface KernelTime {
  readonly name: string;
  /** Dispatches in the recording. */
  readonly count: number;
  /** Microseconds of all of them together, median over the repeats. */
  readonly microseconds: number;
}

const maxQueries = 4096;

/**
 * Microseconds per kernel of a recording, from timestamp queries; most expensive first.
 * Each dispatch runs in a pass of its own, so that the sum is larger than a plain replay's time.
 * @param repeats replays; the median is reported. Default 5.
 * @throws UnsupportedFeatureError without `timestamp-query`, or for more than 2048 dispatches.
 */
export async function profile(recording: Recording, repeats = 5): Promise<KernelTime[]> {
  const gpu = recording.device.gpu;
  const queries = 2 * recording.length;
  if (queries === 0) return [];
  if (!gpu.features.has('timestamp-query') || queries > maxQueries) {
    throw new UnsupportedFeatureError(
      `profiling needs the feature timestamp-query and at most ${maxQueries / 2} dispatches (got ${recording.length})`,
    );
  }
  const querySet = gpu.createQuerySet({ type: 'timestamp', count: queries });
  const resolved = recording.device.tensor(
    'u32',
    [2 * queries],
    GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
  );
  const runs: number[][] = [];
  try {
    for (let i = 0; i < repeats; i++) {
      const encoder = gpu.createCommandEncoder();
      recording.encodeTimed(encoder, querySet);
      encoder.resolveQuerySet(querySet, 0, queries, resolved.buffer, 0);
      gpu.queue.submit([encoder.finish()]);
      runs.push(durations(new BigUint64Array((await recording.device.read(resolved)).buffer)));
    }
  } finally {
    querySet.destroy();
    resolved.destroy();
  }
  return summarise(recording.names, runs);
}

function durations(ticks: BigUint64Array): number[] {
  const times: number[] = [];
  for (let i = 0; i + 1 < ticks.length; i += 2)
    times.push(Number((ticks[i + 1] ?? 0n) - (ticks[i] ?? 0n)) / 1e3);
  return times;
}

function summarise(names: readonly string[], runs: readonly number[][]): KernelTime[] {
  const kernels = [...new Set(names)].map((name) => {
    const indices = names.flatMap((other, i) => (other === name ? [i] : []));
    const totals = runs
      .map((run) => indices.reduce((sum, i) => sum + (run[i] ?? 0), 0))
      .sort((a, b) => a - b);
    return { name, count: indices.length, microseconds: totals[totals.length >> 1] ?? 0 };
  });
  return kernels.sort((a, b) => b.microseconds - a.microseconds);
}
