import { acquireDevice, type Device, type TierName } from '@ensample/tensor';

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
  /** Shaders do not check bounds; see `AcquireOptions`. */
  readonly unchecked?: boolean | undefined;
}

/** Opens the device that the flags name. */
export function openDevice({ adapter, tier, unchecked = false }: DeviceFlags): Promise<Device> {
  const named = adapter ? { adapter } : {};
  return acquireDevice({ ...named, ...(tier ? { tier: tier as TierName } : {}), unchecked });
}
