export { nullGpu, testGpu } from './gpu.ts';
