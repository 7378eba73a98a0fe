import { chooseTier, supportedTiers, type Tier, type TierName } from './capabilities.ts';
import { DeviceLostError, InvalidOptionError, OutOfMemoryError, UnsupportedFeatureError } from './errors.ts';
import type { Kernel } from './kernel.ts';
import { bytesPerElement, elements, type DType, type GpuTensor } from './tensor.ts';

/** Host data for each dtype; f16 travels as its bits. */
export type HostArray = Float32Array | Uint16Array | Uint32Array | Int32Array;

/** Memory held by a device's tensors. */
export interface MemoryUse {
  /** Bytes of live buffers. */
  readonly bytes: number;
  /** Live buffers. */
  readonly buffers: number;
}

/** Options of {@link openDevice}. */
export interface DeviceOptions {
  /** Force a capability tier. Default: the best that the adapter has, `software` on a CPU driver. */
  readonly tier?: TierName;
}

const wantedLimits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxStorageBuffersPerShaderStage',
] as const;

/** A lost device fails what is pending first, and says that it is lost a little later. */
const lossNoticeMs = 100;

/**
 * Opens a device on an adapter with all features its tier uses (and timestamps where offered) and
 * the adapter's own limits.
 * @throws UnsupportedFeatureError when the adapter lacks a feature of the tier asked for.
 */
export async function openDevice(adapter: GPUAdapter, options: DeviceOptions = {}): Promise<Device> {
  const tier = chooseTier(adapter, options.tier);
  const features = [...tier.features, 'timestamp-query'].filter((f) =>
    adapter.features.has(f as GPUFeatureName),
  );
  const requiredLimits = Object.fromEntries(wantedLimits.map((name) => [name, adapter.limits[name]]));
  const gpu = await adapter.requestDevice({ requiredFeatures: features as GPUFeatureName[], requiredLimits });
  return new Device(gpu, tier, adapter.info, supportedTiers(adapter));
}

/**
 * A GPUDevice with its capability tier, its pipelines and an account of its memory.
 * The owner of everything made through it: `destroy` frees all.
 */
export class Device {
  readonly gpu: GPUDevice;
  readonly tier: Tier;
  readonly info: GPUAdapterInfo;
  /** Tiers that could be forced on this adapter. */
  readonly tiers: readonly TierName[];
  /** Rejects work after the device was lost: the error to throw, or undefined while it lives. */
  lostError: DeviceLostError | undefined;
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();
  readonly #live = new Set<GPUBuffer>();
  #bytes = 0;

  constructor(gpu: GPUDevice, tier: Tier, info: GPUAdapterInfo, tiers: readonly TierName[] = [tier.name]) {
    this.gpu = gpu;
    this.tier = tier;
    this.info = info;
    this.tiers = tiers;
    void gpu.lost.then(({ reason, message }) => {
      this.lostError = new DeviceLostError(`the GPU device was lost (${reason}): ${message || 'no message'}`);
    });
  }

  /** Bytes and number of live tensors. */
  get memory(): MemoryUse {
    return { bytes: this.#bytes, buffers: this.#live.size };
  }

  /** Largest tensor that a kernel can bind, in bytes. */
  get maxBindingBytes(): number {
    return Math.min(this.gpu.limits.maxStorageBufferBindingSize, this.gpu.limits.maxBufferSize);
  }

  /**
   * A zero-filled tensor that kernels can bind.
   * @throws InvalidOptionError for a shape that is not of positive integers.
   * @throws OutOfMemoryError when it is larger than a buffer may be.
   */
  tensor<D extends DType>(
    dtype: D,
    shape: readonly number[],
    usage: GPUBufferUsageFlags = storageUsage(),
  ): GpuTensor<D> {
    if (shape.some((size) => !Number.isInteger(size) || size < 1)) {
      throw new InvalidOptionError(`tensor shape [${shape.join(', ')}] must hold positive integers`);
    }
    const byteLength = elements(shape) * bytesPerElement[dtype];
    const size = Math.ceil(byteLength / 4) * 4;
    if (size > this.gpu.limits.maxBufferSize) {
      throw new OutOfMemoryError(
        `a tensor of ${size} bytes is larger than this device's buffers may be (${this.gpu.limits.maxBufferSize} bytes)`,
      );
    }
    this.#checkAlive();
    const buffer = this.gpu.createBuffer({ size, usage });
    this.#live.add(buffer);
    this.#bytes += size;
    return { dtype, shape, buffer, byteLength, destroy: () => this.#free(buffer, size) };
  }

  #checkAlive(): void {
    if (this.lostError) throw this.lostError;
  }

  #free(buffer: GPUBuffer, size: number): void {
    if (!this.#live.delete(buffer)) return;
    this.#bytes -= size;
    buffer.destroy();
  }

  /**
   * A tensor with data, which must fill it.
   * @throws InvalidOptionError when it does not; see also {@link tensor}.
   */
  upload<D extends DType>(
    dtype: D,
    shape: readonly number[],
    data: HostArray,
    usage?: GPUBufferUsageFlags,
  ): GpuTensor<D> {
    const byteLength = elements(shape) * bytesPerElement[dtype];
    if (data.byteLength !== byteLength) {
      throw new InvalidOptionError(
        `${dtype} [${shape.join(', ')}] takes ${byteLength} bytes of data, not ${data.byteLength}`,
      );
    }
    const tensor = this.tensor(dtype, shape, usage);
    this.write(tensor, data);
    return tensor;
  }

  /** Small constants for kernels that declare `var<uniform>`: u32 words, padded to 16 bytes. */
  uniform(words: readonly number[]): GpuTensor<'u32'> {
    const padded = new Uint32Array(Math.ceil(words.length / 4) * 4);
    padded.set(words);
    return this.upload('u32', [padded.length], padded, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
  }

  /**
   * Writes host data into a tensor, from `byteOffset` on. Writes are whole words: the offset is a multiple of 4, and so
   * is the length unless the data end where the tensor does.
   * @throws InvalidOptionError when the data do not fit, or would cut a word in two.
   */
  write(tensor: GpuTensor, data: HostArray, byteOffset = 0): void {
    const end = byteOffset + data.byteLength;
    if (byteOffset < 0 || byteOffset % 4 !== 0 || end > tensor.byteLength) {
      throw new InvalidOptionError(
        `cannot write ${data.byteLength} bytes at ${byteOffset} into a tensor of ${tensor.byteLength} bytes: ` +
          `the offset must be a multiple of 4, and the data must end within the tensor`,
      );
    }
    if (end % 4 !== 0 && end !== tensor.byteLength) {
      throw new InvalidOptionError(
        `writing ${data.byteLength} bytes at ${byteOffset} would end inside a word of 4 bytes`,
      );
    }
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength) as Uint8Array<ArrayBuffer>;
    const whole = bytes.byteLength & ~3;
    if (whole > 0) this.gpu.queue.writeBuffer(tensor.buffer, byteOffset, bytes, 0, whole);
    if (whole < bytes.byteLength) {
      const tail = new Uint8Array(4);
      tail.set(bytes.subarray(whole));
      this.gpu.queue.writeBuffer(tensor.buffer, byteOffset + whole, tail);
    }
  }

  /**
   * Reads a tensor back (f16 as bits). Waits for all work submitted before.
   * @throws DeviceLostError when the device was lost before or while reading.
   * @throws InvalidOptionError for a tensor whose buffer cannot be copied from (`uniform`).
   */
  async read(tensor: GpuTensor<'f32'>): Promise<Float32Array<ArrayBuffer>>;
  async read(tensor: GpuTensor<'u32'>): Promise<Uint32Array<ArrayBuffer>>;
  async read(tensor: GpuTensor): Promise<HostArray>;
  async read(tensor: GpuTensor): Promise<HostArray> {
    this.#checkAlive();
    if ((tensor.buffer.usage & GPUBufferUsage.COPY_SRC) === 0) {
      throw new InvalidOptionError(
        `a ${tensor.dtype} [${tensor.shape.join(', ')}] made without COPY_SRC cannot be read`,
      );
    }
    const size = tensor.buffer.size;
    const staging = this.gpu.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    try {
      const encoder = this.gpu.createCommandEncoder();
      encoder.copyBufferToBuffer(tensor.buffer, 0, staging, 0, size);
      this.gpu.queue.submit([encoder.finish()]);
      await staging.mapAsync(GPUMapMode.READ);
      return viewAs(tensor.dtype, staging.getMappedRange().slice(0, tensor.byteLength));
    } catch (error) {
      await this.#settled();
      this.#checkAlive();
      throw error;
    } finally {
      staging.destroy();
    }
  }

  /** After a failure: waits until a loss of the device, if that was the cause, is known. */
  async #settled(): Promise<void> {
    await Promise.race([this.gpu.lost, new Promise((resolve) => setTimeout(resolve, lossNoticeMs))]);
  }

  /** The pipeline of a kernel, compiled once per source text. */
  pipeline(kernel: Kernel): Promise<GPUComputePipeline> {
    const known = this.#pipelines.get(kernel.code);
    if (known) return known;
    const compiling = compile(this.gpu, kernel);
    this.#pipelines.set(kernel.code, compiling);
    return compiling;
  }

  /** Pipelines compiled so far. */
  get pipelines(): number {
    return this.#pipelines.size;
  }

  /**
   * Runs `allocate` (which may be async) and reports if the device ran out of memory in it; the caller then frees what
   * was made.
   * @throws OutOfMemoryError
   */
  async checkMemory(what: string, allocate: () => unknown): Promise<void> {
    this.gpu.pushErrorScope('out-of-memory');
    let thrown: unknown;
    try {
      await allocate();
    } catch (error) {
      thrown = error;
    }
    const failure = await this.gpu.popErrorScope();
    if (failure)
      throw new OutOfMemoryError(`${what} does not fit in the device's memory: ${failure.message}`);
    if (thrown) throw thrown as Error;
  }

  /** Frees every tensor and the GPUDevice. */
  destroy(): void {
    for (const buffer of this.#live) buffer.destroy();
    this.#live.clear();
    this.#bytes = 0;
    this.#pipelines.clear();
    this.gpu.destroy();
  }
}

function storageUsage(): GPUBufferUsageFlags {
  return GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
}

function viewAs(dtype: DType, bytes: ArrayBuffer): HostArray {
  if (dtype === 'f32') return new Float32Array(bytes);
  if (dtype === 'f16') return new Uint16Array(bytes);
  return dtype === 'u32' ? new Uint32Array(bytes) : new Int32Array(bytes);
}

async function compile(gpu: GPUDevice, kernel: Kernel): Promise<GPUComputePipeline> {
  const entries = kernel.bindings.map((binding, index): GPUBindGroupLayoutEntry => ({
    binding: index,
    visibility: GPUShaderStage.COMPUTE,
    buffer: { type: binding.type },
  }));
  // The scope keeps a bad shader from being reported a second time, as an uncaptured error.
  gpu.pushErrorScope('validation');
  const layout = gpu.createPipelineLayout({ bindGroupLayouts: [gpu.createBindGroupLayout({ entries })] });
  const module = gpu.createShaderModule({ label: kernel.name, code: kernel.code });
  const pipeline = gpu.createComputePipelineAsync({
    label: kernel.name,
    layout,
    compute: { module, entryPoint: 'main' },
  });
  const [compiled] = await Promise.allSettled([pipeline, gpu.popErrorScope()]);
  if (compiled.status === 'fulfilled') return compiled.value;
  throw await compileError(kernel, module, compiled.reason);
}

async function compileError(kernel: Kernel, module: GPUShaderModule, cause: unknown): Promise<Error> {
  const { messages } = await module.getCompilationInfo();
  const errors = messages.filter((m) => m.type === 'error').map((m) => `line ${m.lineNum}: ${m.message}`);
  const numbered = kernel.code.split('\n').map((line, i) => `${String(i + 1).padStart(4)} ${line}`);
  const text = [`kernel ${kernel.name} does not compile`, ...errors, String(cause), ...numbered].join('\n');
  return new UnsupportedFeatureError(text, { cause });
}
