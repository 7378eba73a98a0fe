import { platformGpu } from '#gpu';
import { openDevice, type Device, type DeviceOptions } from './device.ts';
import { UnsupportedFeatureError } from './errors.ts';

/** Options of {@link acquireDevice}. */
export interface AcquireOptions extends DeviceOptions {
  /** Node only: part of the adapter's name, e.g. `'NVIDIA'`. Default: the environment's `ENSAMPLE_ADAPTER`, else the fastest. */
  readonly adapter?: string;
  /** Receives one line when a software driver has to stand in for a GPU. Default: `console.warn`. */
  readonly onNotice?: (line: string) => void;
}

/**
 * Finds an adapter on this platform (browser or Node; a real GPU first) and opens a device on it.
 * @throws UnsupportedFeatureError when there is no adapter, or it lacks the tier asked for; the message says what to do.
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
