export { chiSquare } from './chi-square.ts';
export { expectClose, tolerance, type Tolerance } from './compare.ts';
export { compute, scope, uploadBatch, type Scope, type TestRow } from './compute.ts';
export { DecoderRun, type StepPart } from './decoder-run.ts';
export {
  compilesSlowly,
  driverName,
  eachTier,
  expectNoErrors,
  expectNothingAllocated,
  largeGpu,
  nullDevice,
  sameProducts,
  slowlyCompiled,
  testAdapter,
  testDevice,
  type ClaimedLimits,
  type NothingToTest,
} from './devices.ts';
export { emulatedDevice, onEmulated } from './emulated-gpu.ts';
export {
  checkGolden,
  goldenTolerance,
  likeliest,
  type GoldenCase,
  type GoldenReport,
  type GoldenTolerance,
} from './golden.ts';
export { nullGpu, testGpu } from './gpu.ts';
export { fromHalf, toHalf } from './half.ts';
export { seeded, type Random } from './random.ts';
export { KernelCheck } from './kernel-check.ts';
export { attentionReference, type AttentionInput } from './references/attention.ts';
export { decoderReference } from './references/decoder.ts';
export {
  embedReference,
  gatedReference,
  logSoftmaxReference,
  matmulReference,
  rmsNormReference,
  ropePairsReference,
  ropeReference,
  softmaxReference,
} from './references/dense.ts';
export {
  adjustReference,
  drawReference,
  philoxReference,
  samplingReference,
  type Filters,
  type Penalties,
} from './references/sampling.ts';
export {
  acceptReference,
  promptLookupReference,
  rejectionReference,
  siblingLookupReference,
  type Accepted,
  type AcceptInput,
  type LookupReferenceOptions,
} from './references/speculation.ts';
export { readValues, storedValues, uploadValues } from './values.ts';
export { identityMatrix, randomMatrix, type TestMatrix } from './weights.ts';
export { bytesSource, packTensors, safetensorsFile, type TestTensor } from './safetensors.ts';
export { tinyFiles, tinyModel, type TinyModel, type TinyModelOptions } from './tiny-model.ts';
