/** Row capacities are powers of two, so that few recordings serve all steps. */
export function bucketOf(rows: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, rows)));
}
