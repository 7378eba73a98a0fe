import { platformGpu } from '#gpu';
import { openDevice, type Device, type DeviceOptions } from './device.ts';
import { UnsupportedFeatureError } from './errors.ts';

/** Options of {@link acquireDevice}. */
export interface AcquireOptions extends DeviceOptions {
  /** Node only: part of the adapter's name, e.g. `'NVIDIA'`. Default: the environment's `ENSAMPLE_ADAPTER`, else the fastest. */
  readonly adapter?: string;
  /**
   * Node only: shaders do not check that what they index is in bounds, as WebGPU otherwise has them do (Dawn's
   * `disable_robustness`; browsers have no such switch). What it buys: docs/performance.md. A mistake in a kernel, or a damaged
   * model, may then read and write whatever else this process has on the GPU: only for models that you trust. Default false.
   */
  readonly unchecked?: boolean;
  /** Receives one line when a software driver has to stand in for a GPU. Default: `console.warn`. */
  readonly onNotice?: (line: string) => void;
}

/**
 * Finds an adapter on this platform (browser or Node; a real GPU first) and opens a device on it.
 * @throws UnsupportedFeatureError when there is no adapter, or it lacks the tier asked for, or the platform an option; the
 * message says what to do.
 */
export async function acquireDevice(options: AcquireOptions = {}): Promise<Device> {
  const gpu = await platformGpu(options);
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) {
    throw new UnsupportedFeatureError(
      'WebGPU is here, but it has no adapter: update the graphics driver or the browser',
    );
  }
  return openDevice(adapter, options);
}
