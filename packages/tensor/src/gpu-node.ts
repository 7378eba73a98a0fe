import { nodeGpu } from './node.ts';

/** The platform's WebGPU: in Node, Dawn through npm `webgpu`. */
export function platformGpu(options: { adapter?: string; onNotice?: (line: string) => void }): Promise<GPU> {
  return nodeGpu(options);
}
