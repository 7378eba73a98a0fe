import { acquireDevice, type Device, type TierName } from '@ensample/tensor';

/** Flags of all benchmarks that run a model on a device. */
export const deviceArgs = {
  model: { type: 'string', description: 'Hugging Face folder', default: 'packages/model-js/models/js-22m' },
  adapter: { type: 'string', description: "part of the adapter's name" },
  tier: { type: 'string', description: 'force a capability tier' },
  device: { type: 'string', description: "the device's name for the results (default: its driver's)" },
  results: { type: 'string', description: 'folder for the JSON file', default: 'packages/bench/results' },
} as const;

/** Opens the device that the flags name. */
export function openDevice(args: {
  adapter?: string | undefined;
  tier?: string | undefined;
}): Promise<Device> {
  return acquireDevice({
    ...(args.adapter ? { adapter: args.adapter } : {}),
    ...(args.tier ? { tier: args.tier as TierName } : {}),
  });
}
