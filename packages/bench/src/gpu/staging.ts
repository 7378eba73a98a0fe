import { isSoftware, kernel, Recorder, type GpuTensor, type Kernel } from '@ensample/tensor';
import { attempt, type Bench, type Job } from './bench.ts';
import { draw } from './draw.ts';
import { recordingTime } from './repeats.ts';

/** How data goes through workgroup memory. */
export interface Staging {
  /** Invocations of a workgroup. */
  readonly width: number;
  /** Loads of 16 bytes that an invocation has on their way at once. */
  readonly loads: number;
  /** Rounds that workgroup memory holds: with two, a barrier a round does. */
  readonly buffers: 1 | 2;
  /** KiB of workgroup memory besides: they bound how many workgroups a processor holds. */
  readonly besides: number;
}

const allWays: readonly Staging[] = [
  ...[32, 64, 128, 256].flatMap((width) =>
    ([1, 2] as const).flatMap((buffers) => [4, 8].map((loads) => ({ width, loads, buffers, besides: 0 }))),
  ),
  ...[8, 16, 24, 32].map((besides) => ({ width: 128, loads: 4, buffers: 1 as const, besides })),
];
const groupCounts = [264, 528, 1056, 4224];

const head = /* wgsl */ `
@group(0) @binding(0) var<storage, read> source: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;               // all words added up: the sum of these
@group(0) @binding(2) var<storage, read_write> live: array<atomic<u32>, 2>;    // workgroups there now, and at most so far

const ROUND = WIDTH * LOADS;

// Rounds of a workgroup, one after the other.
fn part(group: u32, groups: u32) -> vec2u {
  let rounds = arrayLength(&source) / ROUND;
  let begin = rounds / groups * group + min(group, rounds % groups);
  return vec2u(begin, begin + rounds / groups + select(0u, 1u, group < rounds % groups));
}

@compute @workgroup_size(WIDTH)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  if (lane == 0u) { atomicMax(&live[1], atomicAdd(&live[0], 1u) + 1u); }
  let sum = sum_of(part(group.x, groups.x), lane);
  sums[group.x * WIDTH + lane] = sum.x + sum.y + sum.z + sum.w;
  if (lane == 0u) { atomicSub(&live[0], 1u); }
}
`;

/** Moves a part a round ahead, and adds up what other invocations put there, so that nothing can be left out. */
const staged = /* wgsl */ `
var<workgroup> room: array<vec4u, BUFFERS * ROUND + BESIDES>;

fn sum_of(own: vec2u, lane: u32) -> vec4u {
  var units: array<vec4u, LOADS>;
  for (var i = 0u; i < LOADS; i++) { units[i] = source[own.x * ROUND + lane + WIDTH * i]; }
  var sum = vec4u();
  for (var r = own.x; r < own.y; r++) {
    let buffer = (r - own.x) % BUFFERS * ROUND;
    for (var i = 0u; i < LOADS; i++) { room[buffer + lane + WIDTH * i] = units[i]; }
    workgroupBarrier();
    let next = min(r + 1u, own.y - 1u);
    for (var i = 0u; i < LOADS; i++) { units[i] = source[next * ROUND + lane + WIDTH * i]; }
    for (var i = 0u; i < LOADS; i++) { sum += room[buffer + (lane + 1u) % WIDTH + WIDTH * i]; }
    if (BUFFERS == 1u) { workgroupBarrier(); }
  }
  return sum;
}
`;

/** The same without workgroup memory. */
const direct = /* wgsl */ `
fn sum_of(own: vec2u, lane: u32) -> vec4u {
  var sum = vec4u();
  for (var r = own.x; r < own.y; r++) {
    for (var i = 0u; i < LOADS; i++) { sum += source[r * ROUND + lane + WIDTH * i]; }
  }
  return sum;
}
`;

/**
 * What bandwidth kernels can have that bring data through workgroup memory, and how many workgroups are there at once: the
 * bound of products and attention on subgroup matrices.
 */
export function stagingJobs(): Job[] {
  return [{ name: 'staging', rank: 28, run: (bench) => benchStaging(bench) }];
}

/** Adds a row for each way that the device has room for, and number of workgroups. @param ways default: all */
export async function benchStaging(bench: Bench, ways: readonly Staging[] = allWays): Promise<void> {
  const { device } = bench;
  const room = device.gpu.limits.maxComputeWorkgroupStorageSize;
  const size = isSoftware(device.info) ? 2 ** 20 : Math.min(2 ** 30, device.maxBindingBytes & ~0xffff);
  const source = device.tensor('u32', [size / 4]);
  try {
    await draw(device, [{ tensor: source, values: 'bits', size: 1, seed: 3 }]);
    const plain = { width: 128, loads: 4, buffers: 1, besides: 0 } as const;
    const expected = await time(bench, source, { ...plain, body: direct, groups: 4224 });
    await bench.report.add({ section: 'staging', way: 'no workgroup memory', n: 4224, ...expected });
    for (const staging of ways.filter((way) => workgroupBytes(way) <= room)) {
      const { width, loads, buffers, besides } = staging;
      const way = `${width} x ${loads} loads, ${buffers} buffers, ${besides} KiB besides`;
      for (const groups of groupCounts) {
        await attempt(bench, `staging ${way}`, async () => {
          const row = await time(bench, source, { ...staging, body: staged, groups });
          if (row.sum !== expected.sum) throw new Error(`it adds up to ${row.sum}, not ${expected.sum}`);
          await bench.report.add({ section: 'staging', way, n: groups, ...row });
        });
      }
    }
  } finally {
    source.destroy();
  }
}

function workgroupBytes({ width, loads, buffers, besides }: Staging): number {
  return 16 * width * loads * buffers + 1024 * besides;
}

function kernelOf({ width, loads, buffers, besides }: Staging, body: string): Kernel {
  const constants = { WIDTH: width, LOADS: loads, BUFFERS: buffers, BESIDES: 64 * besides };
  return kernel('staging', { constants }, head, body);
}

async function time(
  { device, options }: Bench,
  source: GpuTensor<'u32'>,
  staging: Staging & { readonly body: string; readonly groups: number },
): Promise<{ tbps: number; resident: number; sum: number }> {
  const { width, groups, body } = staging;
  const sums = device.tensor('u32', [width * groups]);
  const live = device.tensor('u32', [2]);
  try {
    const recorder = new Recorder(device);
    recorder.run(kernelOf(staging, body), { source, sums, live }, [groups]);
    const recording = await recorder.finish();
    recording.submit();
    const sum = (await device.read(sums)).reduce((all, value) => (all + value) >>> 0, 0);
    const ms = await recordingTime(recording, { ...options, least: options.least / 4 });
    const [, resident = NaN] = await device.read(live);
    return { tbps: source.byteLength / ms / 1e9, resident, sum };
  } finally {
    sums.destroy();
    live.destroy();
  }
}
