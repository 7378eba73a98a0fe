import type { Device } from './device.ts';
import { invariant } from './errors.ts';
import type { Kernel } from './kernel.ts';
import type { GpuTensor } from './tensor.ts';

/** Workgroups in x, y, z; y and z default to 1. */
export type Grid = readonly [number, number?, number?];

/** Collects dispatches. Operations such as `matmul` take a `Pass` and add to it. */
export interface Pass {
  readonly device: Device;
  /** Adds one dispatch of `kernel` with its tensors by binding name. */
  run(kernel: Kernel, tensors: Readonly<Record<string, GpuTensor>>, grid: Grid): void;
}

interface Dispatch {
  readonly name: string;
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
  readonly grid: readonly [number, number, number];
}

interface Call {
  readonly kernel: Kernel;
  readonly tensors: Readonly<Record<string, GpuTensor>>;
  readonly grid: Grid;
}

/**
 * Records a list of dispatches once, to be replayed many times: WebGPU has no compute bundles, so a
 * flat list of (pipeline, bind group, grid) is our graph. {@link finish} compiles what is new.
 */
export class Recorder implements Pass {
  readonly device: Device;
  readonly #calls: Call[] = [];

  constructor(device: Device) {
    this.device = device;
  }

  run(kernel: Kernel, tensors: Readonly<Record<string, GpuTensor>>, grid: Grid): void {
    this.#calls.push({ kernel, tensors, grid });
  }

  /** Compiles all pipelines in parallel and makes the bind groups. */
  async finish(): Promise<Recording> {
    const pipelines = await Promise.all(this.#calls.map((call) => this.device.pipeline(call.kernel)));
    const dispatches = this.#calls.map((call, i): Dispatch => {
      const pipeline = pipelines[i];
      invariant(pipeline, () => `no pipeline for ${call.kernel.name}`);
      const [x, y = 1, z = 1] = call.grid;
      return {
        name: call.kernel.name,
        pipeline,
        bindGroup: bind(this.device, call, pipeline),
        grid: [x, y, z],
      };
    });
    return new Recording(this.device, dispatches);
  }
}

function bind(device: Device, { kernel, tensors }: Call, pipeline: GPUComputePipeline): GPUBindGroup {
  const entries = kernel.bindings.map((binding, index) => {
    const tensor = tensors[binding.name];
    invariant(tensor, () => `kernel ${kernel.name} was run without its tensor "${binding.name}"`);
    return { binding: index, resource: { buffer: tensor.buffer } };
  });
  return device.gpu.createBindGroup({ label: kernel.name, layout: pipeline.getBindGroupLayout(0), entries });
}

/** A recorded list of dispatches. It holds no memory of its own. */
export class Recording {
  readonly device: Device;
  readonly #dispatches: readonly Dispatch[];

  constructor(device: Device, dispatches: readonly Dispatch[]) {
    this.device = device;
    this.#dispatches = dispatches;
  }

  /** Number of dispatches. */
  get length(): number {
    return this.#dispatches.length;
  }

  /** Kernel names in order. */
  get names(): string[] {
    return this.#dispatches.map((dispatch) => dispatch.name);
  }

  /** Writes all dispatches into one compute pass of `encoder`. */
  encode(encoder: GPUCommandEncoder): void {
    const pass = encoder.beginComputePass();
    for (const dispatch of this.#dispatches) encodeDispatch(pass, dispatch);
    pass.end();
  }

  /** Encodes and submits by itself. */
  submit(): void {
    const encoder = this.device.gpu.createCommandEncoder();
    this.encode(encoder);
    this.device.gpu.queue.submit([encoder.finish()]);
  }

  /**
   * Replays with one compute pass per dispatch, between timestamps: entry `i` of the result is the
   * time of dispatch `i`. Used by the profiler; needs the `timestamp-query` feature.
   */
  encodeTimed(encoder: GPUCommandEncoder, querySet: GPUQuerySet): void {
    this.#dispatches.forEach((dispatch, i) => {
      const pass = encoder.beginComputePass({
        timestampWrites: { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 },
      });
      encodeDispatch(pass, dispatch);
      pass.end();
    });
  }
}

function encodeDispatch(pass: GPUComputePassEncoder, { pipeline, bindGroup, grid }: Dispatch): void {
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, bindGroup);
  pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
}
