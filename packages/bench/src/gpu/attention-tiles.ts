import { kernel, Recorder, type GpuTensor, type Kernel } from '@ensample/tensor';
import { shapeOf } from '../synthetic.ts';
import { attendPlainly, attendTiles, tilesHead } from './attention-tiles.wgsl.ts';
import { attempt, type Bench, type GpuOptions, type Job } from './bench.ts';
import { draw } from './draw.ts';
import { recordingTime } from './repeats.ts';
import { expectMatrixTier, nameOf, search, type Choices } from './tune/climb.ts';

/** How attention from tiles is laid out; see `attendTiles`. */
export interface TilesLayout {
  /** Subgroups that have a head's columns together. */
  readonly shares: number;
  /** Such groups of a workgroup, each with keys of its own. */
  readonly groups: number;
  /** Sixteens of keys that a group takes in a round. */
  readonly keyTiles: number;
  /** Parts that a head's keys are cut into, a workgroup for each. */
  readonly parts: number;
}

/** Query vectors of a head, and where a search begins. */
const starts: readonly (readonly [vectors: number, TilesLayout])[] = [
  [16, { shares: 2, groups: 4, keyTiles: 1, parts: 8 }],
  [32, { shares: 4, groups: 1, keyTiles: 2, parts: 8 }],
  [8, { shares: 2, groups: 2, keyTiles: 2, parts: 8 }],
];
const allChoices: Choices<TilesLayout> = {
  shares: [1, 2, 4],
  groups: [1, 2, 4, 8],
  keyTiles: [1, 2, 4],
  parts: [4, 8, 16, 32],
};

const extensions = {
  enable: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
  directives: ['diagnostic(off, chromium.subgroup_matrix_uniformity);'],
};

/** Keys whose scores, in f32, fit in workgroup memory. */
const mostKeys = 8192;

/** Results may differ by so much from those in f32, relative to the largest. */
const agreement = 5e-3;

/** What is attended. */
export interface TilesCase {
  readonly shape: string;
  readonly keys: number;
  readonly vectors: number;
}

/** How fast attention could be, were keys and values in tiles that subgroup matrices take from memory: one prefix, one layer. */
export function attentionTilesJobs({ shapes, contexts }: GpuOptions): Job[] {
  return shapes.flatMap((shape, i) =>
    contexts
      .filter((keys) => keys <= mostKeys)
      .map((keys, j) => ({
        name: `attention from tiles, ${shape}, ${keys}`,
        rank: 29.5 + i / 100 + j / 1000,
        run: async (bench) => {
          for (const [vectors, start] of starts) {
            const one = { shape, keys, vectors };
            await attempt(bench, `${vectors} vectors`, () => benchTiles(bench, one, start));
          }
        },
      })),
  );
}

/** Adds a row for each layout that is met, and says which was the fastest. @param choices default: all */
export async function benchTiles(
  bench: Bench,
  one: TilesCase,
  start: TilesLayout,
  choices: Choices<TilesLayout> = allChoices,
): Promise<void> {
  expectMatrixTier(bench);
  const study = await TilesStudy.make(bench, one);
  try {
    await search(bench, { start, choices }, async (layout) => {
      if (!study.takes(layout)) return undefined;
      const us = await study.time(layout);
      await bench.report.add({ section: 'tune', ...one, way: `tiles: ${nameOf(layout)}`, us });
      return us;
    });
  } finally {
    study.destroy();
  }
}

/** What attends from tiles, for queries, keys and values of these sizes. */
export function tilesKernel(
  sizes: Readonly<Record<'HEADS' | 'HEAD_DIM' | 'KEYS' | 'VECTORS', number>>,
  { shares, groups, keyTiles, parts }: TilesLayout,
): Kernel {
  const own = { SHARES: shares, GROUPS: groups, KEY_TILES: keyTiles, PARTS: parts };
  return kernel('attend_tiles', { ...extensions, constants: { ...sizes, ...own } }, tilesHead, attendTiles);
}

class TilesStudy {
  readonly #bench: Bench;
  readonly #one: TilesCase & { readonly heads: number; readonly headDim: number };
  readonly #tensors: Readonly<Record<'q' | 'kv' | 'partial' | 'log_sums' | 'y', GpuTensor>>;
  #expected = new Float32Array();

  private constructor(bench: Bench, one: TilesCase) {
    const { device } = bench;
    const { kvHeads: heads, headDim } = shapeOf(one.shape);
    const { keys, vectors } = one;
    const rows = heads * vectors;
    const most = Math.max(...allChoices.parts);
    this.#bench = bench;
    this.#one = { ...one, heads, headDim };
    this.#tensors = {
      q: device.tensor('f16', [rows, headDim]),
      kv: device.tensor('f16', [2 * heads, keys, headDim]),
      partial: device.tensor('f32', [most, rows, headDim]),
      log_sums: device.tensor('f32', [most, rows]),
      y: device.tensor('f32', [rows, headDim]),
    };
  }

  /** With random values, and results in f32. */
  static async make(bench: Bench, one: TilesCase): Promise<TilesStudy> {
    const study = new TilesStudy(bench, one);
    const { q, kv, y } = study.#tensors;
    const { heads, headDim, vectors } = study.#one;
    await draw(bench.device, [
      { tensor: q, values: 'f16', size: 1.5 / Math.sqrt(headDim), seed: 9 },
      { tensor: kv, values: 'f16', size: 2, seed: 10 },
    ]);
    const recorder = new Recorder(bench.device);
    const plain = kernel('attend_plainly', { constants: study.#constants }, tilesHead, attendPlainly);
    recorder.run(plain, { q, kv, y }, [vectors, heads]);
    (await recorder.finish()).submit();
    study.#expected = await bench.device.read(y as GpuTensor<'f32'>);
    return study;
  }

  get #constants() {
    const { keys, vectors, heads, headDim } = this.#one;
    return { HEADS: heads, HEAD_DIM: headDim, KEYS: keys, VECTORS: vectors };
  }

  takes({ shares, groups, keyTiles, parts }: TilesLayout): boolean {
    const { keys, vectors, headDim } = this.#one;
    const { maxComputeInvocationsPerWorkgroup: width, maxComputeWorkgroupStorageSize: room } =
      this.#bench.device.gpu.limits;
    const bytes = 16 * groups * vectors * (shares * (4 * keyTiles + 1) + 2 * keyTiles + 2);
    const lanes = (32 * shares) / vectors;
    return (
      headDim % (16 * shares) === 0 &&
      keys % (parts * groups * 16 * keyTiles) === 0 &&
      (lanes === 1 || lanes === 2 || lanes === 4 || lanes === 8) &&
      lanes <= 4 * keyTiles &&
      32 * shares * groups <= width &&
      bytes <= room
    );
  }

  /** µs. @throws Error where results are wrong */
  async time(layout: TilesLayout): Promise<number> {
    const { device, options } = this.#bench;
    const { q, kv, partial, log_sums } = this.#tensors;
    const recorder = new Recorder(device);
    recorder.run(tilesKernel(this.#constants, layout), { q, kv, partial, log_sums }, [
      this.#one.heads,
      layout.parts,
    ]);
    const recording = await recorder.finish();
    recording.submit();
    await this.#check(layout.parts);
    return 1e3 * (await recordingTime(recording, { ...options, least: options.least / 4 }));
  }

  async #check(parts: number): Promise<void> {
    const { device } = this.#bench;
    const { headDim } = this.#one;
    const partial = await device.read(this.#tensors.partial as GpuTensor<'f32'>);
    const logs = await device.read(this.#tensors.log_sums as GpuTensor<'f32'>);
    const rows = this.#expected.length / headDim;
    const scale = this.#expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    this.#expected.forEach((value, i) => {
      const row = Math.floor(i / headDim);
      let [total, sum] = [0, 0];
      for (let part = 0; part < parts; part++) {
        const weight = Math.exp((logs[part * rows + row] ?? NaN) - (logs[row] ?? NaN));
        total += weight;
        sum += weight * (partial[part * rows * headDim + i] ?? NaN);
      }
      if (!(Math.abs(sum / total - value) <= agreement * scale))
        throw new Error(`attention from tiles is ${sum / total} instead of ${value}; it was not timed`);
    });
  }

  destroy(): void {
    for (const tensor of Object.values(this.#tensors)) tensor.destroy();
  }
}
