import { expect, test } from 'vitest';
import { chiSquare, fromHalf, philoxReference, samplingReference, seeded, toHalf } from '../src/index.ts';

/** Draws from `probabilities`, by inversion. */
function draw(probabilities: readonly number[], draws: number, seed: number): number[] {
  const random = seeded(seed);
  const counts = probabilities.map(() => 0);
  for (let i = 0; i < draws; i++) {
    let u = random.uniform();
    const at = probabilities.findIndex((p) => (u -= p) < 0);
    counts[Math.max(0, at)]!++;
  }
  return counts;
}

test('chiSquare gives tabled p-values', () => {
  // Two bins: 1 degree of freedom; 3.841 and 10.828 are the points of 0.05 and 0.001.
  expect(chiSquare([500 + 30.989, 500 - 30.989], [0.5, 0.5])).toBeCloseTo(0.05, 4);
  expect(chiSquare([500 + 52.029, 500 - 52.029], [0.5, 0.5])).toBeCloseTo(0.001, 5);
  // Five equal bins: 4 degrees of freedom; 9.488 is the point of 0.05.
  const off = Math.sqrt((9.488 * 1000) / 2);
  expect(chiSquare([1000 + off, 1000 - off, 1000, 1000, 1000], [0.2, 0.2, 0.2, 0.2, 0.2])).toBeCloseTo(
    0.05,
    4,
  );
});

test('chiSquare accepts the right distribution, and refuses a wrong one and the impossible', () => {
  const right = samplingReference([1, 0.5, 0, -1, -3], { temperature: 1, topK: 0, topP: 1, minP: 0 });
  const wrong = samplingReference([1, 0.5, 0, -1, -3], { temperature: 0.8, topK: 0, topP: 1, minP: 0 });
  for (const seed of [1, 2, 3]) expect(chiSquare(draw(right, 4000, seed), right)).toBeGreaterThan(1e-4);
  expect(chiSquare(draw(wrong, 4000, 1), right)).toBeLessThan(1e-4);
  expect(chiSquare([1000, 1], [1, 0])).toBe(0);
});

test('half precision: all finite values survive, others round to the nearest, ties to even', () => {
  for (let bits = 0; bits < 0x7c00; bits++) expect(toHalf(fromHalf(bits))).toBe(bits);
  expect(toHalf(-2)).toBe(0xc000);
  expect(toHalf(1 + 2 ** -11)).toBe(0x3c00);
  expect(toHalf(1 + 3 * 2 ** -11)).toBe(0x3c02);
  expect(toHalf(65520)).toBe(0x7c00);
});

test('philox gives the known answers of Random123', () => {
  const hex = (words: number[]) => words.map((word) => word.toString(16)).join(' ');
  const ones = 0xffffffff;
  expect(hex(philoxReference([0, 0, 0, 0], [0, 0]))).toBe('6627e8d5 e169c58d bc57ac4c 9b00dbd8');
  expect(hex(philoxReference([ones, ones, ones, ones], [ones, ones]))).toBe(
    '408f276d 41c83b0e a20bc7c6 6d5451fd',
  );
});
