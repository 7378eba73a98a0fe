/** Largest deviation allowed: |a − b| ≤ rtol · |b| + atol · max |b|, where b is the reference. */
export interface Tolerance {
  /** As a fraction of the reference's largest value: sums cancel, so small results err by as much as large ones. */
  readonly atol: number;
  /** As a fraction of the value itself. */
  readonly rtol: number;
}

/** Tolerances by the least precise type on the way from input to result. The only place that holds them. */
export const tolerance: Readonly<Record<'exact' | 'f32' | 'f16' | 'f16Layers', Tolerance>> = {
  /** Copies and integers. */
  exact: { atol: 0, rtol: 0 },
  /** Everything in f32 (weights may be stored in less: the reference gets the stored values). */
  f32: { atol: 1e-5, rtol: 1e-5 },
  /** Operands rounded to f16 and summed in f32: the f16 cache, and products with subgroup matrices. */
  f16: { atol: 2e-3, rtol: 2e-3 },
  /** Several layers over an f16 cache: one layer's rounding is the next one's input. */
  f16Layers: { atol: 1e-2, rtol: 1e-2 },
};

/**
 * Fails where `actual` deviates from `expected` by more than the tolerance, and names the worst place.
 * @returns the largest deviation as a fraction of the reference's largest value.
 */
export function expectClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { atol, rtol }: Tolerance,
): number {
  if (actual.length !== expected.length)
    throw new Error(`${actual.length} values where ${expected.length} are expected`);
  const b = Array.from(expected);
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  let worst = 0;
  let over = 0;
  let at = -1;
  b.forEach((value, i) => {
    const error = Math.abs((actual[i] ?? NaN) - value);
    const excess = error - rtol * Math.abs(value) - atol * largest;
    worst = Math.max(worst, error / (largest || 1));
    // Negated, so that NaN is a failure too.
    if (!(excess <= over)) {
      over = Number.isNaN(excess) ? Infinity : excess;
      at = i;
    }
  });
  if (at >= 0)
    throw new Error(
      `value ${at} of ${b.length} is ${actual[at] ?? NaN}, expected ${b[at] ?? NaN} (rtol ${rtol}, atol ${atol})`,
    );
  return worst;
}
