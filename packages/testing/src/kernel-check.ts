import { invariant, type Device, type GpuTensor, type Grid, type Kernel, type Pass } from '@ensample/tensor';
import { placesOf, rootOf } from './emulated.ts';

/**
 * A pass that keeps the kernels that are run in it, each once, to compile them on a null device that claims the limits of a
 * larger one: shaders are compiled in full, and Dawn says how much workgroup memory a kernel takes that has too little there,
 * that its workgroups are no multiple of a subgroup, or that they are too large.
 */
export class KernelCheck implements Pass {
  readonly device: Device;
  readonly #kernels = new Map<string, Kernel>();

  constructor(device: Device) {
    this.device = device;
  }

  run(kernel: Kernel, tensors: Readonly<Record<string, GpuTensor>>, grid: Grid): void {
    for (const { name } of kernel.bindings)
      invariant(tensors[name], () => `kernel ${kernel.name} was run without its tensor "${name}"`);
    const most = this.device.gpu.limits.maxComputeWorkgroupsPerDimension;
    const whole = grid.every((size = 1) => Number.isInteger(size) && size > 0 && size <= most);
    invariant(whole, () => `kernel ${kernel.name} was run with a grid of ${grid.join(' × ')}`);
    this.#kernels.set(kernel.code, kernel);
  }

  /** The kernels so far. */
  get kernels(): readonly Kernel[] {
    return [...this.#kernels.values()];
  }

  /** Fails with the first kernel that does not compile, or takes more workgroup memory or invocations than the device claims. */
  async expectCompiled(): Promise<void> {
    const failures = await Promise.all(this.kernels.map((kernel) => this.#failure(kernel)));
    const failure = failures.find((message) => message !== undefined);
    if (failure) throw new Error(failure);
  }

  async #failure(kernel: Kernel): Promise<string | undefined> {
    const loose = looseMatrix(kernel.code);
    if (loose)
      return `kernel ${kernel.name}: matrices of ${loose} may not be aligned: its elements must have 16 bytes`;
    try {
      await this.device.pipeline(kernel);
      return undefined;
    } catch (error) {
      const { message } = error as Error;
      const narrower = narrowed(kernel, message, this.device.gpu.limits.maxComputeInvocationsPerWorkgroup);
      if (narrower) return this.#failure(narrower);
      const { gpu, info } = this.device;
      const bytes = Number(/workgroup storage \((\d+) bytes\)/.exec(message)?.[1] ?? Infinity);
      const width = Number(/workgroup_size \((\d+)\) must be a multiple/.exec(message)?.[1]);
      const fits = bytes <= gpu.limits.maxComputeWorkgroupStorageSize || width % info.subgroupMaxSize === 0;
      return fits ? undefined : message;
    }
  }
}

/** A kernel whose workgroups are larger than the null device allows, but no larger than is claimed, with as many invocations as it does. */
function narrowed(kernel: Kernel, message: string, most: number): Kernel | undefined {
  const [, width, allowed] =
    /workgroup_size\((\d+), 1, 1\) that exceeds the maximum allowed \((\d+),/.exec(message) ?? [];
  if (!width || Number(width) > most) return undefined;
  return { ...kernel, code: kernel.code.replace(/@workgroup_size\(\w+\)/, `@workgroup_size(${allowed})`) };
}

/** An array in workgroup memory that matrices are loaded from or stored to, but that may lie anywhere. */
function looseMatrix(code: string): string | undefined {
  const places = [...code.matchAll(/subgroupMatrix(?:Load|Store)<[^(]*\(([^,]+),/g)];
  return places
    .map(([, place = '']) => rootOf(code, place))
    .find((name) => {
      const { type, element } = placesOf(code, name);
      return type.startsWith('ptr<workgroup') && !/^vec4[fu]$/.test(element);
    });
}
