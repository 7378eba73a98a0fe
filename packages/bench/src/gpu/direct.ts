import { dequantize } from '@ensample/mixattn-model';
import { kernel, Recorder, type Device, type GpuTensor, type Kernel } from '@ensample/tensor';
import { attempt, type Bench, type GpuOptions, type Job } from './bench.ts';
import { draw } from './draw.ts';
import { withMatrices } from './products.ts';
import { recordingTime } from './repeats.ts';

/** How subgroup matrices are loaded from storage. */
export interface Direct {
  /** Where a matrix lies: 16 × 16 weights one after the other, or rows of the whole. */
  readonly order: 'tiles' | 'rows';
  /** Element of the arrays: what a compiler knows of their alignment. */
  readonly element: 'f16' | 'vec4u';
  /** Tiles of outputs that a subgroup computes. */
  readonly columnTiles: number;
  /** Tiles of columns that it loads at once. */
  readonly ahead: number;
  /** Subgroups of a workgroup; they share the columns. */
  readonly subgroups: number;
}

const shapesOfLoads = [1, 2, 4].flatMap((columnTiles) =>
  [1, 2, 4].flatMap((ahead) => [1, 4, 8].map((subgroups) => ({ columnTiles, ahead, subgroups }))),
);
const some = { columnTiles: 2, ahead: 2, subgroups: 4 };
const allWays: readonly Direct[] = [
  ...shapesOfLoads.map((shape) => ({ order: 'tiles', element: 'vec4u', ...shape }) as const),
  { order: 'tiles', element: 'f16', ...some },
  { order: 'rows', element: 'vec4u', ...some },
  { order: 'rows', element: 'f16', ...some },
];

const rows = 16;
/** Most that a result may be off, relative to the largest. */
const allowedError = 1e-2;

const body = /* wgsl */ `
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;

@group(0) @binding(0) var<storage, read> w: array<Element>;
@group(0) @binding(1) var<storage, read> x: array<Element>;        // [16, COLUMNS], in the same order
@group(0) @binding(2) var<storage, read_write> y: array<f32>;      // [16, OUTPUTS]

const TILES = COLUMNS / 16u;
const UNIT = 16u / HALVES;                                         // elements of 16 values
const STRIDE = select(COLUMNS / HALVES, UNIT, TILED == 1u);        // from row to row
const NEXT = select(UNIT, 16u * UNIT, TILED == 1u);                // from tile to tile of a row
const WIDTH = 32u * SUBGROUPS;
const SIZE = 256u * COLUMN_TILES;
var<workgroup> tile: array<f32, SUBGROUPS * SIZE>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let subgroup = lane / 32u;
  let first = group.x * COLUMN_TILES * 16u * (COLUMNS / HALVES);
  var sums: array<Sums, COLUMN_TILES>;
  for (var k = subgroup * AHEAD; k < TILES; k += SUBGROUPS * AHEAD) {
    var a: array<Left, AHEAD>;
    var b: array<Right, AHEAD * COLUMN_TILES>;
    for (var i = 0u; i < AHEAD; i++) {
      for (var n = 0u; n < COLUMN_TILES; n++) {
        let at = first + n * 16u * (COLUMNS / HALVES) + (k + i) * NEXT;
        b[i * COLUMN_TILES + n] = subgroupMatrixLoad<Right, col_major>(&w, at, STRIDE);
      }
      a[i] = subgroupMatrixLoad<Left, row_major>(&x, (k + i) * NEXT, STRIDE);
    }
    for (var i = 0u; i < AHEAD; i++) {
      for (var n = 0u; n < COLUMN_TILES; n++) {
        sums[n] = subgroupMatrixMultiplyAccumulate(a[i], b[i * COLUMN_TILES + n], sums[n]);
      }
    }
  }
  for (var n = 0u; n < COLUMN_TILES; n++) {
    subgroupMatrixStore<row_major>(&tile, subgroup * SIZE + n * 256u, sums[n], 16u);
  }
  workgroupBarrier();
  for (var i = lane; i < SIZE; i += WIDTH) {
    var sum = 0.0;
    for (var s = 0u; s < SUBGROUPS; s++) { sum += tile[s * SIZE + i]; }
    y[i / 16u % 16u * OUTPUTS + (group.x * COLUMN_TILES + i / 256u) * 16u + i % 16u] = sum;
  }
}
`;

/**
 * How fast subgroup matrices can be read straight from storage, without barriers, where weights lie in tiles: whether
 * products should have them so.
 */
export function directJobs({ products }: GpuOptions): Job[] {
  return products.map(([outputs, columns], i) => ({
    name: `direct ${outputs} × ${columns}`,
    rank: 27 + i / 10,
    run: (bench) => benchDirect(bench, outputs, columns),
  }));
}

/** Adds a row for each way. @param ways default: all */
export async function benchDirect(
  bench: Bench,
  outputs: number,
  columns: number,
  ways: readonly Direct[] = allWays,
): Promise<void> {
  const { device } = bench;
  const x = device.tensor('f16', [rows, columns]);
  const y = device.tensor('f32', [rows, outputs]);
  try {
    await draw(device, [{ tensor: x, values: 'f16', size: Math.sqrt(3), seed: 5 }]);
    await withMatrices(bench, { weights: 'f16', outputs, columns }, async (matrices) => {
      const all = matrices.flatMap(({ blocks }) => blocks.map((block) => block.words));
      for (const way of ways.filter(({ columnTiles }) => outputs % (16 * columnTiles) === 0)) {
        await attempt(bench, `direct ${Object.values(way).join(' ')}`, () => time(bench, { all, x, y }, way));
      }
    });
  } finally {
    for (const tensor of [x, y]) tensor.destroy();
  }
}

interface Tensors {
  /** Matrices that take turns. */
  readonly all: readonly GpuTensor<'u32'>[];
  readonly x: GpuTensor<'f16'>;
  readonly y: GpuTensor<'f32'>;
}

async function time(
  { device, options, report, bandwidth }: Bench,
  { all, x, y }: Tensors,
  way: Direct,
): Promise<void> {
  const [outputs = 0, columns = 0] = [y.shape[1], x.shape[1]];
  const recorder = new Recorder(device);
  const code = kernelOf(way, outputs, columns);
  for (const w of all) recorder.run(code, { w, x, y }, [outputs / 16 / way.columnTiles]);
  const recording = await recorder.finish();
  device.write(y, new Float32Array(rows * outputs).fill(NaN)); // what is not written must show
  recording.submit();
  const error = await errorOf(device, { w: all.at(-1), x, y }, way);
  const ms = await recordingTime(recording, { ...options, least: options.least / 4 });
  const us = (1e3 * ms) / all.length;
  const bytes = 2 * outputs * columns;
  const what = { section: 'direct', way: Object.values(way).join(' '), rows, outputs, columns };
  await report.add({ ...what, us, tbps: bytes / us / 1e6, error, floorUs: (1e3 * bytes) / bandwidth });
}

function kernelOf(way: Direct, outputs: number, columns: number): Kernel {
  const { order, element, columnTiles, ahead, subgroups } = way;
  const prelude = {
    enable: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
    directives: ['diagnostic(off, chromium.subgroup_matrix_uniformity);'],
    aliases: { Element: element },
    constants: {
      ...{
        OUTPUTS: outputs,
        COLUMNS: columns,
        COLUMN_TILES: columnTiles,
        AHEAD: ahead,
        SUBGROUPS: subgroups,
      },
      ...{ TILED: order === 'tiles' ? 1 : 0, HALVES: element === 'f16' ? 1 : 8 },
    },
  };
  return kernel('direct', prelude, body);
}

/** Largest deviation from f64 of the first, a middle, and the last tile of outputs, relative to the largest result. */
async function errorOf(
  device: Device,
  { w, x, y }: { w: GpuTensor<'u32'> | undefined; x: GpuTensor<'f16'>; y: GpuTensor<'f32'> },
  { order }: Direct,
): Promise<number> {
  if (!w) throw new Error('a product without weights');
  const [outputs = 0, columns = 0] = [y.shape[1], x.shape[1]];
  const ys = await device.read(y);
  const xs = await valuesOf(device, x.buffer, 0, columns);
  let worst = 0;
  let largest = 0;
  for (const tile of new Set([0, Math.floor(outputs / 32), outputs / 16 - 1])) {
    const ws = await valuesOf(device, w.buffer, tile, columns);
    for (let m = 0; m < rows; m++) {
      for (let n = 0; n < 16; n++) {
        let sum = 0;
        for (let k = 0; k < columns; k++)
          sum += (xs[placeOf(order, m, k, columns)] ?? NaN) * (ws[placeOf(order, n, k, columns)] ?? NaN);
        worst = Math.max(worst, Math.abs(sum - (ys[m * outputs + tile * 16 + n] ?? NaN)));
        largest = Math.max(largest, Math.abs(sum));
      }
    }
  }
  if (!(worst <= allowedError * largest))
    throw new Error(`the product is wrong by ${worst / largest}; it was not timed`);
  return worst / largest;
}

function placeOf(order: Direct['order'], row: number, column: number, columns: number): number {
  if (order === 'rows') return row * columns + column;
  return Math.floor(column / 16) * 256 + row * 16 + (column % 16);
}

/** Sixteen rows, from row 16 · tile on. */
async function valuesOf(
  device: Device,
  buffer: GPUBuffer,
  tile: number,
  columns: number,
): Promise<Float32Array> {
  const part = device.tensor('f16', [16, columns]);
  try {
    const encoder = device.gpu.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, tile * part.byteLength, part.buffer, 0, part.byteLength);
    device.gpu.queue.submit([encoder.finish()]);
    const data = (await device.read(part)) as Uint16Array<ArrayBuffer>;
    return dequantize({ format: 'f16', rows: 16, columns, data });
  } finally {
    part.destroy();
  }
}
