import type { Engine, GenerateStats } from '@ensample/runtime';

/** One line about a run: the device, its speed, and what sharing the prompt saved. */
export function describeRun({ info, tier }: Engine['device'], stats: GenerateStats): string {
  const adapter = info.description || `${info.vendor} ${info.architecture}`.trim() || 'WebGPU';
  return [
    `${adapter} (${tier.name})`,
    `${stats.tokensPerSecond.toFixed(1)} tokens/s`,
    ...(stats.speculation ? [`${stats.speculation.tokensPerRound.toFixed(2)} tokens per round`] : []),
    `prefill ${stats.prefillMs.toFixed(0)} ms`,
    `KV ${megabytes(stats.kvBytes)}, unshared ${megabytes(stats.kvBytesUnshared)}`,
    `read per step ${megabytes(stats.kvReadBytesPerStep)}, unshared ${megabytes(stats.kvReadBytesPerStepUnshared)}`,
  ].join(' · ');
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(2)} MB`;
}
