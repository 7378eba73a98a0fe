import { expect, test } from 'vitest';
import { attentionReference } from '../src/index.ts';

/** The same equation as three loops. */
function loops(T: number, S: number, H: number, G: number, D: number, window: number) {
  const value = (i: number) => Math.sin(i * 12.9898) * 2;
  const q = Float32Array.from({ length: T * H * D }, (_, i) => value(i));
  const k = Float32Array.from({ length: S * G * D }, (_, i) => value(i + 1000));
  const v = Float32Array.from({ length: S * G * D }, (_, i) => value(i + 2000));
  const positions = Array.from({ length: T }, (_, t) => S - T + t);
  const keyPositions = Array.from({ length: S }, (_, s) => s);
  const y = new Float32Array(T * H * D);
  for (let t = 0; t < T; t++) {
    for (let h = 0; h < H; h++) {
      const g = Math.floor((h * G) / H);
      const seen = keyPositions.filter((s) => s <= positions[t]! && positions[t]! - s < window);
      const weights = seen.map((s) => {
        let dot = 0;
        for (let d = 0; d < D; d++) dot += q[(t * H + h) * D + d]! * k[(s * G + g) * D + d]!;
        return Math.exp(dot / Math.sqrt(D));
      });
      const sum = weights.reduce((a, b) => a + b);
      for (let d = 0; d < D; d++) {
        y[(t * H + h) * D + d] = seen.reduce(
          (a, s, i) => a + (weights[i]! / sum) * v[(s * G + g) * D + d]!,
          0,
        );
      }
    }
  }
  return { q, k, v, headDim: D, positions, keyPositions, y };
}

test.each([
  [3, 7, 4, 2, 8, Infinity],
  [2, 9, 6, 1, 4, 3],
  [5, 5, 2, 2, 4, 2],
])('attention of %i queries, %i keys, %i heads, %i shared, size %i, window %f', (T, S, H, G, D, window) => {
  const { y, ...input } = loops(T, S, H, G, D, window);
  const got = attentionReference({ ...input, window });
  expect(got.length).toBe(y.length);
  got.forEach((value, i) => expect(value).toBeCloseTo(y[i]!, 5));
});
