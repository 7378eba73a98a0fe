export { appendEpilogue, kvPrelude, ropeAppend, segmentConstants } from './append.ts';
export { KvCache, type KvCacheOptions, type KvMemory } from './cache.ts';
export {
  kindsOf,
  maxKinds,
  placesOf,
  type KvKind,
  type KvLayout,
  type LayerKv,
  type LayerPlace,
} from './layout.ts';
export { PagePool, type PageShape, type Slab } from './pool.ts';
export { neededFrom, type Extension } from './reach.ts';
export { oldest, type PageRun, type Segment } from './segment.ts';
export { segmentChunk } from './segments.wgsl.ts';
export { Sequence } from './sequence.ts';
export {
  defaultDraftLimit,
  kvBytes,
  largestFitting,
  longestDraft,
  pageBytes,
  pagesFor,
  prefillRows,
  promptPages,
  roundsInFlight,
  samplePages,
  type KvStorage,
  type RunSize,
} from './sizing.ts';
export {
  headerWords,
  layOutTables,
  openEnd,
  recordWords,
  segmentTable,
  type RowPlace,
  type RowRange,
  type SegmentTable,
  type StepSequence,
  type Stretch,
} from './table.ts';
