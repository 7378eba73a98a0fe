import { kernel } from '../kernel.ts';
import type { Pass } from '../pass.ts';
import type { GpuTensor } from '../tensor.ts';
import {
  dropRoots,
  embedBody,
  keepRoots,
  rmsNormHead,
  rmsNormOnce,
  rmsNormTwice,
  ropeBody,
  ropeStore,
  turnChunk,
} from './elementwise.wgsl.ts';
import { decodeQuad, type Matrix } from './matrix.ts';
import { narrowChunk, operandPrelude, type Operand } from './operand.ts';
import type { Epilogue } from './product.ts';
import { reducingKernel, rowLanes } from './reduce.ts';

/**
 * Rows of a step, as kernels read them: `[1 + capacity]` of `vec4u`. Entry 0 is `(rows, …)`; entry
 * `1 + r` is `(token, position, leaf segment, sequence)` of row `r`. Row counts are read on the GPU,
 * so that a recording serves any number of rows up to the capacity it was made for.
 */
export type Batch = GpuTensor<'u32'>;

/** Rows that a batch buffer has room for. */
export function batchCapacity(batch: Batch): number {
  return (batch.shape[0] ?? 4) / 4 - 1;
}

/** Makes an empty batch buffer for up to `capacity` rows. */
export function createBatch(
  pass: { tensor(dtype: 'u32', shape: readonly number[]): Batch },
  capacity: number,
): Batch {
  return pass.tensor('u32', [4 * (1 + capacity)]);
}

/** Tensors of {@link rmsNorm}. */
export interface RmsNormTensors {
  readonly batch: Batch;
  /** `[rows, width]` */
  readonly x: GpuTensor<'f32'>;
  /** `[width]` */
  readonly weight: GpuTensor<'f32'>;
  /** `[rows, width]` */
  readonly y: GpuTensor<Operand>;
  /** `[rows]`, written where it is given: each row's 1 / √(mean(x²) + eps). */
  readonly roots?: GpuTensor<'f32'>;
}

/** RMSNorm: y = x / √(mean(x²) + eps) · weight, for each row of x `[rows, width]`. */
export function rmsNorm(
  pass: Pass,
  { roots, ...tensors }: RmsNormTensors,
  { width, eps, rows }: { width: number; eps: number; rows: number },
): void {
  const { tier } = pass.device;
  const lanes = Math.min(512, rowLanes(pass.device, width)); // more would have less than two vectors each
  const constants = { WIDTH: width, EPS: eps.toExponential() + 'f', REDUCE_WIDTH: lanes };
  const { dtype } = tensors.y;
  const prelude = { ...operandPrelude({ Y: dtype }), constants };
  const keep = roots ? keepRoots : dropRoots;
  const body = lanes < 128 ? rmsNormTwice : rmsNormOnce;
  const code = reducingKernel(tier, 'rms_norm', prelude, narrowChunk[dtype], rmsNormHead, keep, body);
  pass.run(code, roots ? { ...tensors, roots } : { ...tensors }, [rows]);
}

/** Shape of the heads that {@link rope} turns. */
export interface RopeShape {
  /** Heads to rotate, at the front of each row. */
  readonly heads: number;
  readonly headDim: number;
  /** Values in a row of x. */
  readonly stride: number;
  readonly rows: number;
}

/**
 * Rotary positions, in place, of pairs that are neighbours; `angles` from {@link ropeAngles}. Heads of checkpoints whose pairs
 * are half a head apart (rotate-half) are brought to that order with their weights.
 */
export function rope(
  pass: Pass,
  { batch, angles, x }: { batch: Batch; angles: GpuTensor<'f32'>; x: GpuTensor<'f32'> },
  { heads, headDim, stride, rows }: RopeShape,
): void {
  const constants = { HEADS: heads, HEAD_DIM: headDim, STRIDE: stride };
  const grid = [Math.ceil((heads * headDim) / 2 / 64), rows] as const;
  pass.run(kernel('rope', { constants }, ropeBody), { batch, angles, x }, grid);
}

/**
 * {@link rope} of all outputs of a product that are heads of `headDim`, instead of storing them as they are.
 * @param angles from {@link ropeAngles}
 */
export function ropeEpilogue(angles: GpuTensor<'f32'>, headDim: number): Epilogue {
  return {
    prelude: { constants: { HEAD_DIM: headDim } },
    chunks: [turnChunk, ropeStore],
    tensors: { angles },
  };
}

/**
 * Cosine and sine of every position's angles, `[positions, headDim / 2, 2]`, computed in f64: WGSL
 * promises little about `cos` of large arguments.
 */
export function ropeAngles(positions: number, headDim: number, theta: number): Float32Array<ArrayBuffer> {
  const half = headDim / 2;
  const angles = new Float32Array(positions * headDim);
  for (let pair = 0; pair < half; pair++) {
    const frequency = theta ** (-pair / half);
    for (let position = 0; position < positions; position++) {
      angles[2 * (position * half + pair)] = Math.cos(position * frequency);
      angles[2 * (position * half + pair) + 1] = Math.sin(position * frequency);
    }
  }
  return angles;
}

/** Embedding rows of the batch's tokens: y `[rows, columns]`. Ids past the vocabulary write nothing. */
export function embed(
  pass: Pass,
  { batch, weights, y }: { batch: Batch; weights: Matrix; y: GpuTensor<'f32'> },
  { rows }: { rows: number },
): void {
  const code = kernel('embed', {}, decodeQuad[weights.storage], embedBody);
  const grid = [Math.ceil(weights.columns / 4 / 64), rows] as const;
  for (const { words, scales, dims } of weights.blocks)
    pass.run(code, { words, scales, batch, dims, y }, grid);
}
