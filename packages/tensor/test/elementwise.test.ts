import {
  embed,
  matmul,
  rmsNorm,
  rope,
  ropeAngles,
  ropeEpilogue,
  tiers,
  uploadMatrix,
  type Device,
  type GpuTensor,
  type Operand,
} from '@ensample/tensor';
import {
  compute,
  eachTier,
  embedReference,
  expectClose,
  identityMatrix,
  randomMatrix,
  readValues,
  rmsNormReference,
  ropePairsReference,
  scope,
  seeded,
  tolerance,
  storedValues,
  uploadBatch,
  uploadValues,
} from '@ensample/testing';
import { expect, test } from 'vitest';

/** Rows active, and rows that buffers have room for. */
const active = 5;
const capacity = 7;

/** The active rows must be `expected`, the others what they were. */
async function expectRows(
  device: Device,
  y: GpuTensor<Operand>,
  expected: Float32Array<ArrayBuffer>,
  before: Float32Array<ArrayBuffer>,
  allowed = tolerance.f32,
): Promise<void> {
  const result = await readValues(device, y);
  expectClose(result.subarray(0, expected.length), expected, allowed);
  expect(result.subarray(expected.length)).toEqual(before.subarray(expected.length));
}

await eachTier((device, tier) => {
  const narrow = tiers[tier].features.includes('shader-f16') ? [[288, 'f16'] as const] : [];
  const wide = [12, 288, 520].map((width) => [width, 'f32'] as const);
  test.each([...wide, ...narrow])('rmsNorm of width %i to %s', async (width, type) => {
    const { own, destroy } = scope();
    const random = seeded(width);
    const x = random.normals(capacity * width);
    const before = random.normals(capacity * width);
    const weight = random.normals(width);
    if (type === 'f16') weight[5] = 1e6; // too large results become the largest
    const batch = own(
      uploadBatch(
        device(),
        Array.from({ length: active }, () => ({})),
        capacity,
      ),
    );
    const y = own(uploadValues(device(), type, [capacity, width], before));
    const inputs = {
      x: own(device().upload('f32', [capacity, width], x)),
      weight: own(device().upload('f32', [width], weight)),
    };
    await compute(device(), (pass) =>
      rmsNorm(pass, { batch, ...inputs, y }, { width, eps: 1e-5, rows: capacity }),
    );
    const expected = storedValues(type, rmsNormReference(x.subarray(0, active * width), weight, 1e-5));
    await expectRows(device(), y, expected, storedValues(type, before), tolerance[type]);
    destroy();
  });

  test.each([
    { heads: 3, headDim: 32, rest: 20 },
    { heads: 5, headDim: 64, rest: 0 },
  ])('rope of $heads heads of $headDim, $rest values left alone', async ({ heads, headDim, rest }) => {
    const { own, destroy } = scope();
    const random = seeded(headDim);
    const stride = heads * headDim + rest;
    const positions = [0, 1, 7, 500, 2047];
    const theta = 10_000;
    const x = random.normals(capacity * stride);
    const batch = own(
      uploadBatch(
        device(),
        positions.map((position) => ({ position })),
        capacity,
      ),
    );
    const angles = own(device().upload('f32', [2048, headDim / 2, 2], ropeAngles(2048, headDim, theta)));
    const turned = own(device().upload('f32', [capacity, stride], x));
    await compute(device(), (pass) =>
      rope(pass, { batch, angles, x: turned }, { heads, headDim, stride, rows: capacity }),
    );
    const front = positions.map((_, r) => x.subarray(r * stride, r * stride + heads * headDim));
    const expected = x.slice(0, active * stride);
    const flat = Float32Array.from(front.flatMap((row) => Array.from(row)));
    const rotated = ropePairsReference(flat, { heads, headDim, positions, theta });
    positions.forEach((_, r) =>
      expected.set(rotated.subarray(r * heads * headDim, (r + 1) * heads * headDim), r * stride),
    );
    await expectRows(device(), turned, expected, x);
    if (rest === 0) {
      const weights = own(uploadMatrix(device(), identityMatrix(stride)));
      const tensors = { batch, x: own(device().upload('f32', [capacity, stride], x)), weights };
      const y = own(device().upload('f32', [capacity, stride], x));
      await compute(device(), (pass) =>
        matmul(pass, { ...tensors, y }, { rows: capacity, store: ropeEpilogue(angles, headDim) }),
      );
      await expectRows(device(), y, expected, x);
    }
    destroy();
  });

  test.each(['f32', 'f16', 'int8'] as const)(
    'embed of %s rows, in one block and in several',
    async (format) => {
      const { own, destroy } = scope();
      const random = seeded(7);
      const [vocab, columns] = [37, 288];
      const { host, values } = randomMatrix(random, format, vocab, columns);
      const tokens = [0, 13, 14, 36, 1];
      const rows = [...tokens.map((token) => ({ token })), { token: vocab }]; // the last is no token: nothing is written
      const batch = own(uploadBatch(device(), rows, capacity));
      const before = random.normals(capacity * columns);
      for (const maxBlockBytes of [2 ** 20, 14 * columns]) {
        const weights = own(uploadMatrix(device(), host, maxBlockBytes));
        const y = own(device().upload('f32', [capacity, columns], before));
        await compute(device(), (pass) => embed(pass, { batch, weights, y }, { rows: capacity }));
        await expectRows(device(), y, embedReference(values, columns, tokens), before, tolerance.exact);
      }
      destroy();
    },
  );
});
