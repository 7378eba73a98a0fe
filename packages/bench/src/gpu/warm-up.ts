import { isSoftware, kernel, Recorder, type Device, type Recording } from '@ensample/tensor';
import { gpuTime } from './clock.ts';

/** Arithmetic for about half a millisecond of a large GPU. */
const arithmetic = kernel(
  'warm_up',
  {},
  /* wgsl */ `
@group(0) @binding(0) var<storage, read_write> out: array<vec4f>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  var v = out[id.x % 64u];
  for (var i = 0u; i < 4000u; i++) { v = v * 1.0001 + vec4f(0.5, 0.25, 0.1, 0.2); }
  if (v.x == 1.5) { out[id.x % 64u] = v; }
}
`,
);

interface Warmth {
  readonly recording: Promise<Recording>;
  /** Milliseconds at the highest clock seen. */
  best: number;
  rounds: number;
}

const warmths = new WeakMap<Device, Warmth>();

const longest = 3000;

/**
 * Keeps a GPU busy until it computes as fast as it ever did. Between short measurements its clock falls, to a quarter on
 * an H100, and takes a while to come back; an engine that decodes keeps it up.
 */
export async function warmUp(device: Device): Promise<void> {
  if (isSoftware(device.info)) return;
  const warmth = warmths.get(device) ?? { recording: record(device), best: Infinity, rounds: 0 };
  warmths.set(device, warmth);
  const recording = await warmth.recording;
  const began = performance.now();
  while (performance.now() - began < longest) {
    for (let i = 0; i < 4; i++) {
      const encoder = device.gpu.createCommandEncoder();
      for (let j = 0; j < 8; j++) recording.encode(encoder);
      device.gpu.queue.submit([encoder.finish()]);
    }
    const ms = await gpuTime(device, (encoder) => recording.encode(encoder));
    warmth.best = Math.min(warmth.best, ms);
    if (++warmth.rounds > 20 && ms < 1.04 * warmth.best) return;
  }
}

async function record(device: Device): Promise<Recording> {
  const out = device.tensor('f32', [256]);
  const recorder = new Recorder(device);
  recorder.run(arithmetic, { out }, [2112]);
  return recorder.finish();
}
