/** Bins that expect fewer draws are put together: the test's own approximation needs about five in each. */
const leastExpected = 8;

/**
 * Pearson's chi-square test of counts against probabilities.
 * @returns the chance that draws from these probabilities deviate as much; 0 where something impossible was drawn.
 */
export function chiSquare(counts: ArrayLike<number>, probabilities: ArrayLike<number>): number {
  const drawn = Array.from(counts);
  const total = drawn.reduce((sum, count) => sum + count, 0);
  const bins: { expected: number; count: number }[] = [];
  const rest = { expected: 0, count: 0 };
  for (const [i, count] of drawn.entries()) {
    const expected = (probabilities[i] ?? 0) * total;
    if (expected === 0 && count > 0) return 0;
    if (expected >= leastExpected) bins.push({ expected, count });
    else {
      rest.expected += expected;
      rest.count += count;
    }
  }
  if (rest.expected >= leastExpected || rest.count > 0) bins.push(rest);
  if (bins.length < 2) return 1;
  const statistic = bins.reduce((sum, bin) => sum + (bin.count - bin.expected) ** 2 / bin.expected, 0);
  return upperGamma((bins.length - 1) / 2, statistic / 2);
}

/** Regularised upper incomplete gamma function Q(a, x), by its series (Abramowitz and Stegun 6.5.29). */
function upperGamma(a: number, x: number): number {
  if (x <= 0) return 1;
  if (x > a + 60 + 12 * Math.sqrt(a)) return 0; // far below any threshold, where the series would cancel
  let term = 1 / a;
  let sum = term;
  for (let n = 1; term > sum * 1e-16; n++) {
    term *= x / (a + n);
    sum += term;
  }
  return Math.max(0, 1 - sum * Math.exp(a * Math.log(x) - x - logGamma(a)));
}

/** ln Γ(a): Stirling's series, shifted to where it is exact to double precision. */
function logGamma(a: number): number {
  let shift = 0;
  let z = a;
  for (; z < 10; z++) shift -= Math.log(z);
  const series = 1 / (12 * z) - 1 / (360 * z ** 3) + 1 / (1260 * z ** 5) - 1 / (1680 * z ** 7);
  return shift + (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI) + series;
}
