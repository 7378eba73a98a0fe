import { invariant, type Device, type GpuTensor } from '@ensample/tensor';

/** One row's result of a round; see `accept` of `@ensample/spec-decode`. */
export interface RowResult {
  readonly token: number;
  readonly logprob: number;
  /** See `status` of `@ensample/spec-decode`. */
  readonly status: number;
  /** Strategy, from 1, that guessed the token in this place; 0 without a guess. */
  readonly origin: number;
  /** Whether that guess was right. */
  readonly kept: boolean;
}

/** Results of a round, and when they came. */
export interface ReadRows {
  readonly rows: readonly RowResult[];
  /** `performance.now()` when the device had finished. */
  readonly at: number;
}

/**
 * A ring of mappable buffers, so that a round's results are read while later ones run: one copy in the round's own
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
  copy(encoder: GPUCommandEncoder, results: GpuTensor<'u32'>, rows: number): () => Promise<ReadRows> {
    const staging = this.#ring[this.#next++ % this.#ring.length];
    invariant(staging, () => 'a read-back ring of depth 0');
    encoder.copyBufferToBuffer(results.buffer, 0, staging.buffer, 0, 16 * rows);
    return () => this.#read(staging.buffer, rows);
  }

  async #read(buffer: GPUBuffer, count: number): Promise<ReadRows> {
    try {
      await buffer.mapAsync(GPUMapMode.READ, 0, 16 * count);
    } catch (error) {
      throw this.#device.lostError ?? error;
    }
    const at = performance.now();
    const bytes = buffer.getMappedRange(0, 16 * count);
    const words = new Uint32Array(bytes);
    const floats = new Float32Array(bytes);
    const rows = Array.from({ length: count }, (_, row): RowResult => {
      const [token = 0, , status = 0, guess = 0] = words.subarray(4 * row, 4 * row + 4);
      return { token, logprob: floats[4 * row + 1] ?? 0, status, origin: guess & 255, kept: guess > 255 };
    });
    buffer.unmap();
    return { rows, at };
  }

  destroy(): void {
    for (const staging of this.#ring) staging.destroy();
  }
}
