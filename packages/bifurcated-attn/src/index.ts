export { Attention, type AttentionOptions, type AttentionTensors } from './attention.ts';
export { attentionVariant } from './kernels.ts';
export { planStep, type ReadBytes, type StepPlan, type Tiling } from './plan.ts';
