import { chosenKernels, openSafetensors, parseConfig, type ModelConfig } from '@ensample/mixattn-model';
import {
  elements,
  isSoftware,
  openDevice,
  supportedTiers,
  UnsupportedFeatureError,
  type Device,
} from '@ensample/tensor';
import { nodeGpu } from '@ensample/tensor/node';
import type { Command } from 'commander';
import { addCommonFlags, gpuOptions, type DeviceFlags } from './flags.ts';
import type { Host } from './host.ts';
import { chooseModel } from './model.ts';
import { bytes } from './text.ts';

interface InfoFlags extends DeviceFlags {
  readonly model?: string;
  readonly json?: boolean;
}

const limitNames = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
] as const;

/** Adds `ensample info`. */
export function addInfo(program: Command, host: Host): void {
  const command = program.command('info').description('show the device and the model');
  addCommonFlags(command).action((flags: InfoFlags) => info(flags, host));
}

async function info(flags: InfoFlags, { stdout, stderr }: Host): Promise<void> {
  const { device, adapter } = await open(flags, (line) => void stderr.write(`${line}\n`));
  try {
    const facts = { ...deviceFacts(device, adapter), model: await modelFacts(flags.model, device) };
    stdout.write(flags.json ? `${JSON.stringify(facts, undefined, 2)}\n` : table(facts));
  } finally {
    device.destroy();
  }
}

type Facts = ReturnType<typeof deviceFacts> & { model: Awaited<ReturnType<typeof modelFacts>> };

async function open(flags: DeviceFlags, onNotice: (line: string) => void) {
  const gpu = await nodeGpu({ onNotice, ...gpuOptions(flags) });
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) throw new UnsupportedFeatureError('WebGPU has no adapter: update the graphics driver');
  const device = await openDevice(adapter, flags.tier === undefined ? {} : { tier: flags.tier });
  return { adapter, device };
}

function deviceFacts(device: Device, adapter: GPUAdapter) {
  const { vendor, architecture, description } = adapter.info;
  const { limits, features } = device.gpu;
  return {
    adapter: { vendor, architecture, description },
    driver: isSoftware(adapter.info) ? 'software' : 'GPU',
    tier: device.tier.name,
    tiers: supportedTiers(adapter),
    features: [...features].filter((name) => name !== 'core-features-and-limits').sort(),
    limits: Object.fromEntries(limitNames.map((name) => [name, limits[name]])),
  };
}

/** Row counts to show the choice of kernels for: one sample, some, and many or a draft's. */
const shownRows = [1, 16, 64];

async function modelFacts(place: string | undefined, device: Device) {
  const { source, files } = chooseModel(place);
  const config = parseConfig(await files.json('config.json'));
  const data = await files.bytes('model.safetensors');
  const weights = await openSafetensors(data, `${files.name}/model.safetensors`);
  const parameters = [...weights.tensors]
    .filter(([name]) => !name.endsWith('.weight_scale'))
    .reduce((sum, [, { shape }]) => sum + elements(shape), 0);
  const kernels = shownRows.map((rows) => ({ rows, ...chosenKernels(device, config, weights, rows) }));
  await weights.close();
  return {
    name: source.name,
    architecture: config.architecture,
    parameters,
    bytes: data.size,
    contextLength: config.contextLength,
    vocabSize: config.vocabSize,
    ...(source.draft ? { draft: source.draft().name } : {}),
    ...layerFacts(config),
    kernels,
  };
}

function layerFacts({ layers }: ModelConfig) {
  return {
    layers: layers.length,
    slidingLayers: layers.filter(({ kind }) => kind === 'sliding').length,
    windows: [...new Set(layers.flatMap(({ window }) => window ?? []))],
    kvCaches: new Set(layers.map(({ kvSource }) => kvSource)).size,
  };
}

function table({ adapter, driver, tier, tiers, features, limits, model }: Facts): string {
  const limit = (name: string, value: number) => (name.endsWith('Size') ? bytes(value) : String(value));
  const layers =
    `${model.layers}, ${model.slidingLayers} of them with a window` +
    (model.windows.length > 0 ? ` of ${model.windows.join(', ')} tokens` : '');
  const rows = [
    ['adapter', `${adapter.vendor} ${adapter.architecture}`],
    ['', adapter.description],
    ['driver', driver],
    ['tier', `${tier} (of ${tiers.join(', ')})`],
    ['features', features.join(', ') || 'none'],
    ...Object.entries(limits).map(([name, value]) => [name, limit(name, value)]),
    ['model', `${model.name} (${model.architecture})`],
    ['parameters', `${(model.parameters / 1e6).toFixed(1)} M in ${bytes(model.bytes)}`],
    ['layers', `${layers}; ${model.kvCaches} KV caches`],
    ['context', `${model.contextLength} tokens`],
    ['vocabulary', `${model.vocabSize} tokens`],
    ['draft model', model.draft ?? 'none of its own'],
    ...model.kernels.map(({ rows: count, ...chosen }) => [
      `${count} row${count > 1 ? 's' : ''}`,
      Object.entries(chosen)
        .map(([name, kernel]) => `${name} ${kernel}`)
        .join(', '),
    ]),
  ] as const;
  const width = Math.max(...rows.map(([name = '']) => name.length));
  return rows.map(([name = '', value = '']) => `${name.padEnd(width)}  ${value}`.trimEnd() + '\n').join('');
}
