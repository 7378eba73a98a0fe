/**
 * Row capacities are powers of two, so that few recordings serve all steps, and 48: a round that verifies three rows of 16 samples,
 * or six of 8, is much faster than one of 64 (docs/performance-log.md).
 */
export function bucketOf(rows: number): number {
  return rows > 32 && rows <= 48 ? 48 : 2 ** Math.ceil(Math.log2(Math.max(1, rows)));
}

/** The capacity below one that is larger than 1. */
export function smallerBucket(bucket: number): number {
  return bucket === 64 ? 48 : bucketOf(bucket / 2);
}
