export { acquireDevice, type AcquireOptions } from './acquire.ts';
export { isSoftware, supportedTiers, tiers, type Tier, type TierName } from './capabilities.ts';
export { Device, openDevice, type DeviceOptions, type HostArray, type MemoryUse } from './device.ts';
export {
  DeviceLostError,
  EnsampleError,
  InvalidModelError,
  InvalidOptionError,
  invariant,
  OutOfMemoryError,
  UnsupportedFeatureError,
} from './errors.ts';
export {
  kernel,
  mergePreludes,
  type Kernel,
  type KernelBinding,
  type KernelPart,
  type Prelude,
} from './kernel.ts';
export {
  batchCapacity,
  createBatch,
  embed,
  rmsNorm,
  rope,
  ropeAngles,
  ropeEpilogue,
  type Batch,
  type RopeShape,
} from './kernels/elementwise.ts';
export { matmul, productVariant, type Operands, type ProductOptions } from './kernels/matmul.ts';
export type {
  LayoutUse,
  PanelLayout,
  ProductLayout,
  RowLayout,
  TeamLayout,
} from './kernels/matmul-layouts.ts';
export { matrixProduct } from './kernels/matmul-matrix.ts';
export { panelProduct } from './kernels/matmul-panel.ts';
export { teamProduct } from './kernels/matmul-team.ts';
export { eightColumns } from './kernels/matmul-team.wgsl.ts';
export { partialSums } from './kernels/matmul-slices.ts';
export { rowProduct } from './kernels/matmul-row.ts';
export { turnChunk } from './kernels/elementwise.wgsl.ts';
export { productBuffers, subgroupMatrices } from './kernels/product.ts';
export type { Epilogue, Product, ProductNorm, ProductShape, Store, Variant } from './kernels/product.ts';
export {
  columnMultiple,
  emptyMatrix,
  matrixBytes,
  uploadMatrix,
  type HostMatrix,
  type Matrix,
  type MatrixBlock,
  type MatrixShape,
  type WeightFormat,
  type WeightStorage,
} from './kernels/matrix.ts';
export { panelRows, rowOfPanels } from './kernels/panels.ts';
export { narrowChunk, operandPrelude, type Operand } from './kernels/operand.ts';
export { reducingKernel, rowLanes } from './kernels/reduce.ts';
export {
  addAndNorm,
  normRows,
  normSums,
  type AddedProduct,
  type NormOperands,
  type NormShape,
} from './kernels/residual.ts';
export type { NormedRows } from './kernels/normed-rows.ts';
export {
  adjust,
  encodeSequence,
  encodeState,
  finishedWord,
  sample,
  sequenceWords,
  stateWords,
  tally,
  type AdjustTensors,
  type SampleTensors,
  type SequenceSampling,
} from './kernels/sample.ts';
export { orderedChunk, philoxChunk, sequenceChunk } from './kernels/sample.wgsl.ts';
export { Recorder, Recording, type Grid, type Pass } from './pass.ts';
export { profile, type KernelTime } from './profiler.ts';
export { bytesPerElement, elements, type DType, type GpuTensor } from './tensor.ts';
