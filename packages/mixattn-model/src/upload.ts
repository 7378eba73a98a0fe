import { ropeAngles, uploadMatrix, type Device, type GpuTensor, type Matrix } from '@ensample/tensor';
import type { ModelConfig } from './config.ts';
import type { HostMatrix } from './host-matrix.ts';
import type { WeightReader } from './weights.ts';

/** Weights of a layer on the device. */
export interface Layer {
  readonly inputNorm: GpuTensor<'f32'>;
  readonly qkv: Matrix;
  readonly output: Matrix;
  readonly postNorm: GpuTensor<'f32'>;
  readonly gateUp: Matrix;
  readonly down: Matrix;
}

/** All of a decoder's weights on the device. */
export interface Parts {
  readonly layers: readonly Layer[];
  readonly embedding: Matrix;
  readonly head: Matrix;
  readonly finalNorm: GpuTensor<'f32'>;
  readonly angles: GpuTensor<'f32'>;
}

/** What is freed with its owner. */
export type Owned = { destroy(): void };

/**
 * Uploads a model's weights, one layer at a time.
 * @param owned receives each part as soon as it is on the device.
 */
export async function uploadWeights(
  device: Device,
  config: ModelConfig,
  weights: WeightReader<HostMatrix | Matrix>,
  owned: Owned[],
  onLayer?: (done: number) => void,
): Promise<Parts> {
  const own = <T extends Owned>(part: T): T => {
    owned.push(part);
    return part;
  };
  const vector = (data: Float32Array<ArrayBuffer>) => own(device.upload<'f32'>('f32', [data.length], data));
  const matrix = (part: HostMatrix | Matrix) => own('blocks' in part ? part : uploadMatrix(device, part));
  const embedding = matrix(await weights.embedding());
  const layers: Layer[] = [];
  for (let i = 0; i < config.layers.length; i++) {
    const part = await weights.layer(i);
    layers.push({
      inputNorm: vector(part.inputNorm),
      qkv: matrix(part.qkv),
      output: matrix(part.output),
      postNorm: vector(part.postNorm),
      gateUp: matrix(part.gateUp),
      down: matrix(part.down),
    });
    onLayer?.(i + 1);
  }
  const head = await weights.head();
  return {
    layers,
    embedding,
    head: head ? matrix(head) : embedding,
    finalNorm: vector(await weights.finalNorm()),
    angles: vector(ropeAngles(config.contextLength, config.headDim, config.ropeTheta)),
  };
}
