/** Element type of a tensor. Quantised weights are `u32` words. */
export type DType = 'f32' | 'f16' | 'u32' | 'i32';

/** Bytes of one element. */
export const bytesPerElement: Readonly<Record<DType, number>> = { f32: 4, f16: 2, u32: 4, i32: 4 };

/**
 * A GPUBuffer with a type and a shape (row-major). Plain data: operations are functions over it.
 * Make one with {@link Device.tensor} or {@link Device.upload}; `destroy` gives its memory back.
 */
export interface GpuTensor<D extends DType = DType> {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly buffer: GPUBuffer;
  /** Bytes of data; the buffer may be up to 3 bytes longer (buffers are multiples of 4 bytes). */
  readonly byteLength: number;
  /** Frees the buffer; further calls do nothing. */
  destroy(): void;
}

/** Number of elements of a shape. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
