import type { Recording } from '@ensample/tensor';
import { median } from '../results.ts';
import { gpuTime } from './clock.ts';
import { warmUp } from './warm-up.ts';

/** Repeats of what takes `ms` that take `least` milliseconds together. */
export function repeatsFor(ms: number, least: number): number {
  return Math.max(1, Math.min(1000, Math.ceil(least / Math.max(ms, 1e-3))));
}

/** Milliseconds of a recording, median, after one that warms up; many in a submission, `least` milliseconds together. */
export async function recordingTime(
  recording: Recording,
  { least, repeats }: { readonly least: number; readonly repeats: number },
): Promise<number> {
  const { device } = recording;
  const timed = async (count: number) => {
    const ms = await gpuTime(device, (encoder) => {
      for (let i = 0; i < count; i++) recording.encode(encoder);
    });
    return ms / count;
  };
  await warmUp(device);
  const count = repeatsFor(await timed(1), least);
  const times: number[] = [];
  for (let i = 0; i < repeats; i++) times.push(await timed(count));
  return median(times);
}
