import { invariant, type Device, type GpuTensor } from '@ensample/tensor';

/** One row's result of a step. */
export interface RowResult {
  readonly token: number;
  readonly logprob: number;
  /** See `status` of `@ensample/tensor`. */
  readonly status: number;
}

/**
 * A ring of mappable buffers, so that a step's results are read while later steps run: one copy in the step's own
 * submission, one mapAsync, no allocation.
 */
export class Readback {
  readonly #device: Device;
  readonly #ring: GpuTensor<'u32'>[];
  #next = 0;

  constructor(device: Device, rows: number, depth: number) {
    this.#device = device;
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    this.#ring = Array.from({ length: depth }, () => device.tensor('u32', [rows, 4], usage));
  }

  /** Copies `results` within `encoder`; call the function it returns after the submission. */
  copy(encoder: GPUCommandEncoder, results: GpuTensor<'u32'>, rows: number): () => Promise<RowResult[]> {
    const staging = this.#ring[this.#next++ % this.#ring.length];
    invariant(staging, () => 'a read-back ring of depth 0');
    encoder.copyBufferToBuffer(results.buffer, 0, staging.buffer, 0, 16 * rows);
    return () => this.#read(staging.buffer, rows);
  }

  async #read(buffer: GPUBuffer, rows: number): Promise<RowResult[]> {
    try {
      await buffer.mapAsync(GPUMapMode.READ, 0, 16 * rows);
    } catch (error) {
      throw this.#device.lostError ?? error;
    }
    const bytes = buffer.getMappedRange(0, 16 * rows);
    const words = new Uint32Array(bytes);
    const floats = new Float32Array(bytes);
    const results = Array.from({ length: rows }, (_, row): RowResult => {
      return {
        token: words[4 * row] ?? 0,
        logprob: floats[4 * row + 1] ?? 0,
        status: words[4 * row + 2] ?? 0,
      };
    });
    buffer.unmap();
    return results;
  }

  destroy(): void {
    for (const staging of this.#ring) staging.destroy();
  }
}
