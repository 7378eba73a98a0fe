import { encodeSequence, sample, type Device, type SequenceSampling } from '@ensample/tensor';
import {
  chiSquare,
  compilesSlowly,
  compute,
  drawReference,
  eachTier,
  expectClose,
  logSoftmaxReference,
  samplingReference,
  scope,
  seeded,
  tolerance,
  uploadBatch,
} from '@ensample/testing';
import { describe, expect, test } from 'vitest';

const plain: SequenceSampling = {
  seed: 0,
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  start: 0,
  end: 1000,
  history: 0,
  counts: 0,
};

interface Row {
  readonly settings: SequenceSampling;
  /** Position of the row's input token: the token drawn is the next one. */
  readonly position: number;
  readonly logits: Float32Array<ArrayBuffer>;
  /** Default: the logits. */
  readonly adjusted?: Float32Array<ArrayBuffer>;
}

/** Draws one token a row, in one dispatch. */
async function draw(
  device: Device,
  rows: readonly Row[],
): Promise<{ tokens: number[]; logProbs: Float32Array; thresholds: number[] }> {
  const { own, destroy } = scope();
  const vocab = rows[0]!.logits.length;
  const settings = [...new Set(rows.map((row) => row.settings))];
  const join = (parts: Float32Array<ArrayBuffer>[]) => {
    const all = new Float32Array(rows.length * vocab);
    parts.forEach((part, r) => all.set(part, r * vocab));
    return own(device.upload('f32', [rows.length, vocab], all));
  };
  const words = Uint32Array.from(settings.flatMap((s) => [...encodeSequence(s)]));
  const batch = uploadBatch(
    device,
    rows.map(({ settings: s, position }) => ({ position, sequence: settings.indexOf(s) })),
  );
  const tensors = {
    batch: own(batch),
    sequences: own(device.upload('u32', [settings.length, 16], words)),
    logits: join(rows.map((row) => row.logits)),
    adjusted: join(rows.map((row) => row.adjusted ?? row.logits)),
    picks: own(device.tensor('u32', [rows.length, 4])),
  };
  await compute(device, (pass) => sample(pass, tensors, { vocab, rows: rows.length }));
  const picks = await device.read(tensors.picks);
  destroy();
  const floats = new Float32Array(picks.buffer);
  return {
    tokens: rows.map((_, r) => picks[4 * r]!),
    logProbs: Float32Array.from(rows, (_, r) => floats[4 * r + 1]!),
    thresholds: rows.map((_, r) => picks[4 * r + 2]!),
  };
}

/** Not a multiple of 4, and not of a workgroup. One size for all tests: each is a pipeline of its own. */
const vocab = 203;

/** These logits from token 0 on, and no chance for all others. */
function only(...values: readonly number[]): Float32Array<ArrayBuffer> {
  const padded = new Float32Array(vocab).fill(-Infinity);
  padded.set(values);
  return padded;
}

/** Every sixth token is likely, the others are hardly ever drawn. */
const logits = seeded(5)
  .normals(vocab)
  .map((value, id) => Math.max(-3, Math.min(3, 1.5 * value)) - (id % 6 === 3 ? 0 : 8));

const filterSets = [
  { temperature: 1, topK: 0, topP: 1, minP: 0 },
  { temperature: 0.6, topK: 0, topP: 1, minP: 0 },
  { temperature: 1.7, topK: 0, topP: 1, minP: 0 },
  { temperature: 1, topK: 7, topP: 1, minP: 0 },
  { temperature: 1, topK: 0, topP: 0.75, minP: 0 },
  { temperature: 1, topK: 0, topP: 1, minP: 0.2 },
  { temperature: 0.8, topK: 20, topP: 0.9, minP: 0.05 },
  { temperature: 1.3, topK: 9, topP: 0.99, minP: 0.1 },
];

/** Bits of a number in an order that compares like the numbers, as thresholds are given. */
function ordered(value: number): number {
  const [bits = 0] = new Uint32Array(Float32Array.of(value).buffer);
  return (bits >= 2 ** 31 ? ~bits : bits | (2 ** 31)) >>> 0;
}

/** 24 samples of 50 tokens each. */
const keys = Array.from({ length: 1200 }, (_, i) => ({ seed: 1000 + Math.floor(i / 50), position: i % 50 }));

await eachTier((device, tier) => {
  describe('sample', () => {
    test('draws from the exact distribution of every combination of filters', async ({ skip }) => {
      skip(compilesSlowly(device()), 'SwiftShader takes long for workgroups so wide');
      // Wide workgroups take long on software drivers; that they give the same tokens is tested below.
      for (const filters of tier === 'software' ? filterSets : filterSets.slice(-1)) {
        const settings = new Map(keys.map(({ seed }) => [seed, { ...plain, ...filters, seed }]));
        const rows = keys.map(({ seed, position }) => ({ settings: settings.get(seed)!, position, logits }));
        const { tokens } = await draw(device(), rows);
        const counts = Array.from(
          { length: vocab },
          (_, id) => tokens.filter((token) => token === id).length,
        );
        const exact = samplingReference(logits, filters);
        expect(chiSquare(counts, exact), JSON.stringify(filters)).toBeGreaterThan(1e-4);
        // The control: the same draws do not pass for a warmer distribution.
        const warmer = samplingReference(logits, { ...filters, temperature: 1.5 * filters.temperature });
        expect(chiSquare(counts, warmer), JSON.stringify(filters)).toBeLessThan(1e-4);
      }
    });

    test('draws are independent of position, seed and of other rows', async () => {
      const settings = [0, 1].map((seed) => ({ ...plain, seed }));
      const even = only(1, 1, 1, 1);
      const rows = settings.flatMap((s) =>
        Array.from({ length: 512 }, (_, position) => ({ settings: s, position, logits: even })),
      );
      const { tokens } = await draw(device(), rows);
      const [first, second] = [tokens.slice(0, 512), tokens.slice(512)];
      const pairs = (a: number[], b: number[]) => {
        const counts = new Array<number>(16).fill(0);
        b.forEach((token, i) => counts[4 * a[i]! + token]!++);
        return chiSquare(
          counts,
          counts.map(() => 1 / 16),
        );
      };
      expect(pairs(first, second)).toBeGreaterThan(1e-4);
      expect(pairs(first, first.slice(1))).toBeGreaterThan(1e-4);
      expect(pairs(first, first)).toBeLessThan(1e-4);
    });

    test('the same key gives the same token in any batch: the reference’s own', async () => {
      const random = seeded(9);
      const filters = { temperature: 0.9, topK: 50, topP: 0.95, minP: 0.01 };
      const rows = Array.from({ length: 12 }, (_, i) => ({
        settings: { ...plain, ...filters, seed: i % 2 ? 2 ** 40 + 7 * i : i },
        position: 3 * i,
        logits: random.normals(vocab),
      }));
      const { tokens } = await draw(device(), rows);
      expect(tokens).toEqual(
        rows.map((row) =>
          drawReference(row.logits, filters, { seed: row.settings.seed, position: row.position + 1 }),
        ),
      );
      expect((await draw(device(), [...rows].reverse())).tokens.reverse()).toEqual(tokens);
      expect((await draw(device(), rows.slice(5, 6))).tokens).toEqual(tokens.slice(5, 6));
    });

    test('the threshold says which tokens the filters have left', async () => {
      const random = seeded(9);
      const rows = [...filterSets, { ...plain, topP: 0 }, { ...plain, temperature: 0, topK: 3 }].flatMap(
        (filters) =>
          Array.from({ length: 3 }, (_, position) => ({
            settings: { ...plain, ...filters },
            position,
            logits: random.normals(vocab).map((value) => Math.min(value, 5)),
          })),
      );
      const { thresholds } = await draw(device(), rows);
      rows.forEach(({ settings, logits: row }, r) => {
        // Greedy has no need of filters: all is left.
        const greedy = settings.temperature === 0;
        const law = greedy ? row.map(() => 1) : samplingReference(row, settings);
        const left = Array.from(row, (value) => ordered(value) >= thresholds[r]!);
        expect(left).toEqual(Array.from(law, (p) => p > 0));
      });
    });

    test('thresholds among more close logits than are compared with each other', async () => {
      const random = seeded(12);
      const many = 1600;
      const close = random.normals(many).map((value) => 2 + 1e-4 * value);
      const spread = random.normals(many).map((value, id) => (id % 3 ? Math.min(2 * value, 2.5) : 1.5)); // 534 equals
      const far = random.normals(many).map((value) => Math.max(-60, Math.min(20 * value, 9))); // most weigh nothing
      const filters = [
        { topK: 700 },
        { topP: 0.4 },
        { topP: 0.999 },
        { topK: 1590 },
        { topK: 30, topP: 0.6 },
      ];
      const rows = [close, spread, far].flatMap((logits) =>
        filters.map((filter, position) => ({ settings: { ...plain, ...filter }, position, logits })),
      );
      const { thresholds } = await draw(device(), rows);
      rows.forEach(({ settings, logits: row }, r) => {
        const left = Array.from(row, (value) => ordered(value) >= thresholds[r]!);
        expect(left).toEqual(Array.from(samplingReference(row, settings), (p) => p > 0));
      });
    });

    test('greedy takes the largest, the lowest id of equals; log-probabilities are of the raw logits', async () => {
      const random = seeded(11);
      const greedy = { ...plain, temperature: 0 };
      const raw = Array.from({ length: 4 }, () => random.normals(vocab).map((v) => Math.min(v, 8)));
      raw[1]!.set([9, 9], 130); // equals in neighbouring lanes
      raw[2]![7] = raw[2]![7 + 128] = raw[2]![vocab - 1] = 9; // in one lane, and in the last one
      raw[3]!.fill(-Infinity).set([-1e30], 199);
      const adjusted = raw.map((row) => row.slice());
      adjusted[0]![17] = 50;
      const rows = raw.map((row, i) => ({
        settings: greedy,
        position: i,
        logits: row,
        adjusted: adjusted[i]!,
      }));
      const { tokens, logProbs } = await draw(device(), rows);
      expect(tokens).toEqual([17, 130, 7, 199]);
      const expected = raw.map((row, i) => logSoftmaxReference(row, vocab)[tokens[i]!]!);
      expectClose(logProbs, expected, tolerance.f32);
    });

    test('filters keep equals together, and at least the likeliest', async () => {
      const tied = only(2, 1, 2, 0, 1, 1, -1);
      const kept = async (filters: Partial<SequenceSampling>) => {
        const settings = { ...plain, ...filters };
        const rows = Array.from({ length: 200 }, (_, position) => ({ settings, position, logits: tied }));
        return [...new Set((await draw(device(), rows)).tokens)].sort();
      };
      expect(await kept({ topK: 1 })).toEqual([0, 2]);
      expect(await kept({ topK: 3 })).toEqual([0, 1, 2, 4, 5]);
      expect(await kept({ topP: 0.01 })).toEqual([0, 2]);
      expect(await kept({ topP: 0 })).toEqual([0, 2]);
      expect(await kept({ minP: 1 })).toEqual([0, 2]);
      expect(await kept({ minP: Math.exp(-1) * 0.999 })).toEqual([0, 1, 2, 4, 5]);
      expect(await kept({ topK: 7, topP: 0.9999999 })).toEqual([0, 1, 2, 3, 4, 5, 6]);
    });
  });
});
