export { Attention, type AttentionOptions, type AttentionTensors } from './attention.ts';
export {
  attentionVariant,
  matrixVariant,
  teamVariant,
  tileVariant,
  type AttendKernel,
  type AttendVariant,
  type Cached,
  type MatrixLayout,
} from './kernels.ts';
export { planStep, type ReadBytes, type StepPlan, type Tile, type Tiling } from './plan.ts';
