export { nullGpu, testGpu } from './gpu.ts';
export { attentionReference, type AttentionInput } from './references/attention.ts';
