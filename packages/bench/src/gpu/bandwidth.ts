import { createBatch, kernel, Recorder, type Device } from '@ensample/tensor';
import { recordingTime } from './repeats.ts';

/** TB/s that a plain loop reads, by a part of the device's name: measured once, so that floors stay comparable. */
const measured: readonly (readonly [name: string, tbps: number])[] = [['H100', 3.25]];

/** Every invocation reads every so many vectors; the sum is stored where it cannot be, so that no read is dropped. */
const readBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> source: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> sink: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  var sum = vec4u(0u);
  for (var i = id.x; i < arrayLength(&source); i += 256u * groups.x) { sum += source[i]; }
  if (all(sum == vec4u(1u, 2u, 3u, 4u))) { sink[0] = 1u; }
}
`;

/**
 * TB/s that the device's memory gives.
 * @returns also the row for the report, where it had to be measured
 */
export async function bandwidthOf(
  device: Device,
  name: string,
  { bytes, repeats }: { bytes: number; repeats: number },
): Promise<{ tbps: number; measured: boolean }> {
  const known = measured.find(([part]) => name.includes(part));
  if (known) return { tbps: known[1], measured: false };
  const size = Math.min(bytes, device.maxBindingBytes) & ~15;
  const source = device.tensor('u32', [size / 4]);
  const sink = createBatch(device, 1);
  try {
    const recorder = new Recorder(device);
    recorder.run(kernel('read', {}, readBody), { source, sink }, [Math.min(4096, Math.ceil(size / 4096))]);
    const recording = await recorder.finish();
    const ms = await recordingTime(recording, { least: 10, repeats });
    return { tbps: size / ms / 1e9, measured: true };
  } finally {
    source.destroy();
    sink.destroy();
  }
}
