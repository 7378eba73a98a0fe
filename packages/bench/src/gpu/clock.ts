import type { Device, GpuTensor } from '@ensample/tensor';

/** Timestamps of what runs on the GPU: `index` counts from 0. */
export class Stamps {
  readonly #querySet: GPUQuerySet;
  readonly #resolved: GpuTensor<'u32'>;
  readonly #device: Device;

  constructor(device: Device, count: number) {
    this.#device = device;
    this.#querySet = device.gpu.createQuerySet({ type: 'timestamp', count });
    const usage = GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC;
    this.#resolved = device.tensor('u32', [2 * count], usage);
  }

  /** A timestamp before what is encoded next. */
  before(encoder: GPUCommandEncoder, index: number): void {
    const timestampWrites = { querySet: this.#querySet, beginningOfPassWriteIndex: index };
    encoder.beginComputePass({ timestampWrites }).end();
  }

  /** A timestamp when all that was encoded so far has finished. */
  after(encoder: GPUCommandEncoder, index: number): void {
    const timestampWrites = { querySet: this.#querySet, endOfPassWriteIndex: index };
    encoder.beginComputePass({ timestampWrites }).end();
  }

  /** All timestamps in milliseconds, from the first one on. */
  async read(): Promise<number[]> {
    const { gpu } = this.#device;
    const encoder = gpu.createCommandEncoder();
    encoder.resolveQuerySet(this.#querySet, 0, this.#querySet.count, this.#resolved.buffer, 0);
    gpu.queue.submit([encoder.finish()]);
    const ticks = new BigUint64Array((await this.#device.read(this.#resolved)).buffer);
    return Array.from(ticks, (tick) => Number(tick - (ticks[0] ?? 0n)) / 1e6);
  }

  destroy(): void {
    this.#querySet.destroy();
    this.#resolved.destroy();
  }
}

/**
 * Milliseconds that the GPU takes for what `encode` records, by timestamps; where there are none, from submission to
 * completion.
 */
export async function gpuTime(device: Device, encode: (encoder: GPUCommandEncoder) => void): Promise<number> {
  const { gpu } = device;
  const stamps = gpu.features.has('timestamp-query') ? new Stamps(device, 2) : undefined;
  try {
    const encoder = gpu.createCommandEncoder();
    stamps?.before(encoder, 0);
    encode(encoder);
    stamps?.after(encoder, 1);
    const commands = encoder.finish();
    const began = performance.now();
    gpu.queue.submit([commands]);
    await gpu.queue.onSubmittedWorkDone();
    const wall = performance.now() - began;
    const [, ms = NaN] = (await stamps?.read()) ?? [0, wall];
    return ms;
  } finally {
    stamps?.destroy();
  }
}
