import { acquireDevice, openDevice as openOn, type Device, type TierName } from '@ensample/tensor';
import { nodeGpu } from '@ensample/tensor/node';

/** Flags of all benchmarks that run a model on a device. */
export const deviceArgs = {
  model: { type: 'string', description: 'Hugging Face folder', default: 'packages/model-js/models/js-22m' },
  adapter: { type: 'string', description: "part of the adapter's name" },
  tier: { type: 'string', description: 'force a capability tier' },
  device: { type: 'string', description: "the device's name for the results (default: its driver's)" },
  results: { type: 'string', description: 'folder for the JSON file', default: 'packages/bench/results' },
} as const;

/** What {@link openDevice} opens. */
export interface DeviceFlags {
  readonly adapter?: string | undefined;
  readonly tier?: string | undefined;
  /** Shaders do not check the bounds of their accesses (a switch of Dawn's; browsers have none). */
  readonly unchecked?: boolean | undefined;
}

/** Opens the device that the flags name. */
export async function openDevice({ adapter, tier, unchecked = false }: DeviceFlags): Promise<Device> {
  const named = adapter ? { adapter } : {};
  const options = tier ? { tier: tier as TierName } : {};
  if (!unchecked) return acquireDevice({ ...named, ...options });
  const gpu = await nodeGpu({ ...named, enable: ['disable_robustness'] });
  const found = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!found) throw new Error('no adapter');
  return openOn(found, options);
}
