import { kernel, Recorder, subgroupMatrices, type GpuTensor, type Kernel } from '@ensample/tensor';
import { shapeOf } from '../../synthetic.ts';
import { attempt, type Bench, type GpuOptions, type Job } from '../bench.ts';
import { draw } from '../draw.ts';
import { recordingTime } from '../repeats.ts';
import { checkAttention } from './attention-step.ts';
import { attendPlainly, attendTiles, tilesHead } from './attention-tiles.wgsl.ts';
import { expectMatrixTier, nameOf, search, type Choices } from './climb.ts';

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

/** Keys whose scores, in f32, fit in workgroup memory. */
const mostKeys = 8192;

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
  const study = new TilesStudy(bench, one);
  try {
    await study.begin();
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
  return kernel(
    'attend_tiles',
    { ...subgroupMatrices, constants: { ...sizes, ...own } },
    tilesHead,
    attendTiles,
  );
}

class TilesStudy {
  readonly #bench: Bench;
  readonly #one: TilesCase & { readonly heads: number; readonly headDim: number };
  readonly #tensors: Readonly<Record<'q' | 'kv' | 'partial' | 'log_sums' | 'y', GpuTensor>>;
  #expected = new Float32Array();

  constructor(bench: Bench, one: TilesCase) {
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

  /** Draws random values, and computes what they give in f32. */
  async begin(): Promise<void> {
    const { device } = this.#bench;
    const { q, kv, y } = this.#tensors;
    const { heads, headDim, vectors } = this.#one;
    await draw(device, [
      { tensor: q, values: 'f16', size: 1.5 / Math.sqrt(headDim), seed: 9 },
      { tensor: kv, values: 'f16', size: 2, seed: 10 },
    ]);
    const recorder = new Recorder(device);
    const plain = kernel('attend_plainly', { constants: this.#constants }, tilesHead, attendPlainly);
    recorder.run(plain, { q, kv, y }, [vectors, heads]);
    (await recorder.finish()).submit();
    this.#expected = await device.read(y as GpuTensor<'f32'>);
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
      [1, 2, 4, 8].includes(lanes) &&
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
    checkAttention(await this.#results(layout.parts), this.#expected);
    return 1e3 * (await recordingTime(recording, { ...options, least: options.least / 4 }));
  }

  /** Results of all parts, joined by log-sum-exp. */
  async #results(parts: number): Promise<Float32Array> {
    const { device } = this.#bench;
    const { headDim } = this.#one;
    const partial = await device.read(this.#tensors.partial as GpuTensor<'f32'>);
    const logs = await device.read(this.#tensors.log_sums as GpuTensor<'f32'>);
    const rows = this.#expected.length / headDim;
    return this.#expected.map((_, i) => {
      const row = Math.floor(i / headDim);
      let [total, sum] = [0, 0];
      for (let part = 0; part < parts; part++) {
        const weight = Math.exp((logs[part * rows + row] ?? NaN) - (logs[row] ?? NaN));
        total += weight;
        sum += weight * (partial[part * rows * headDim + i] ?? NaN);
      }
      return sum / total;
    });
  }

  destroy(): void {
    for (const tensor of Object.values(this.#tensors)) tensor.destroy();
  }
}
