import type { PlatformOptions } from './gpu-browser.ts';
import { nodeGpu } from './node.ts';

/** The platform's WebGPU: in Node, Dawn through npm `webgpu`. */
export function platformGpu(options: PlatformOptions): Promise<GPU> {
  return nodeGpu(options);
}
