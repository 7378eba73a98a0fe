import { isSoftware } from './capabilities.ts';
import { UnsupportedFeatureError } from './errors.ts';
import { quietPolling, type WaitingClasses } from './quiet-polling.ts';
import { addSoftwareDriver, hasVulkanLoader } from './software-driver.ts';

/** How {@link nodeGpu} finds an adapter. */
export interface NodeGpuOptions {
  /**
   * Part of the adapter's name, as in `'NVIDIA'`, `'llvmpipe'` or `'SwiftShader'` (upper and lower case matter).
   * Default: the environment variable `ENSAMPLE_ADAPTER`; where that is not set, the fastest adapter.
   */
  adapter?: string;
  /** Dawn's backend: `'vulkan'`, `'metal'`, `'d3d12'`, or `'null'`, which validates everything and computes nothing. */
  backend?: string;
  /**
   * Shaders do not check that what they index is in bounds: faster, and a mistake or a damaged model may then read and write
   * whatever else this process has on the GPU. See `AcquireOptions`. Default false.
   */
  unchecked?: boolean;
  /** Dawn toggles to enable besides those Ensample always enables. */
  enable?: readonly string[];
  /** Dawn toggles to disable besides those Ensample always disables. */
  disable?: readonly string[];
  /** Receives one line when a software driver has to stand in for a GPU. Default: `console.warn`. */
  onNotice?: (line: string) => void;
}

/** What npm `webgpu` exports. Its own types bring a second copy of the WebGPU globals, so they are not used. */
interface Dawn {
  create(flags: string[]): GPU;
  globals: Record<string, unknown> & WaitingClasses;
}

/** f16 is off by default on NVIDIA; experimental features, subgroup matrices among them, count as unsafe. */
const ENABLED: readonly string[] = ['allow_unsafe_apis', 'vulkan_enable_f16_on_nvidia'];
/** Dawn's name for WebGPU's checks of bounds is robustness. */
const UNCHECKED: readonly string[] = ['disable_robustness'];
/** Quantised timestamps have steps of 65 µs: of no use to a profiler. */
const DISABLED: readonly string[] = ['timestamp_quantization'];

/**
 * How long Dawn polls often: on a GPU as long as another round, whose results are found a little late, still keeps it busy; a
 * software driver needs the core.
 */
const OFTEN_MS = { gpu: 1.5, software: 0.3 } as const;

const INSTALL_DRIVER =
  'Install the driver of your GPU or a software one: `apt-get install mesa-vulkan-drivers` on Debian and Ubuntu, ' +
  'or, without root, `npm install @sparticuz/chromium` on Linux x64.';

/**
 * A `GPU` for Node, through Dawn (npm `webgpu`). Preferred: a real GPU, then any Vulkan driver, then SwiftShader as
 * npm `@sparticuz/chromium` carries it. Also defines WebGPU's globals (`GPUBufferUsage`, …) where they are absent.
 *
 * @throws UnsupportedFeatureError without npm `webgpu`, or when no adapter fits; the message says what to install.
 */
export async function nodeGpu(options: NodeGpuOptions = {}): Promise<GPU> {
  const dawn = await loadDawn();
  const wanted = options.adapter ?? (process.env['ENSAMPLE_ADAPTER'] || undefined);
  const flags = dawnFlags(options, wanted);
  if (options.backend === 'null') return createGpu(dawn, flags);

  const onSystem = hasVulkanLoader() ? await probe(dawn, flags) : MISSING;
  const found =
    onSystem.info || !mayUseSoftware(wanted) || !addSoftwareDriver() ? onSystem : await probe(dawn, flags);
  if (!found.info) throw new UnsupportedFeatureError(`${missing(wanted, found)} ${INSTALL_DRIVER}`);
  const software = isSoftware(found.info);
  quietPolling(dawn.globals, software ? OFTEN_MS.software : OFTEN_MS.gpu);
  if (wanted === undefined && software) (options.onNotice ?? console.warn)(notice(found.info));
  return found.gpu;
}

interface Found {
  gpu: GPU;
  info: GPUAdapterInfo;
}

interface Missing {
  info?: undefined;
  /** Dawn's list of adapters, when a name was asked for and none has it. */
  reason?: string;
}

const MISSING: Missing = {};

async function probe(dawn: Dawn, flags: string[]): Promise<Found | Missing> {
  const gpu = createGpu(dawn, flags);
  try {
    const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
    return adapter ? { gpu, info: adapter.info } : MISSING;
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error) };
  }
}

async function loadDawn(): Promise<Dawn> {
  const name: string = 'webgpu'; // not a literal: bundlers must leave the import alone
  let dawn: Dawn;
  try {
    dawn = (await import(name)) as Dawn;
  } catch (cause) {
    throw new UnsupportedFeatureError('WebGPU in Node needs Dawn: run `npm install webgpu`.', { cause });
  }
  for (const [key, value] of Object.entries(dawn.globals)) {
    if (!(key in globalThis))
      Object.defineProperty(globalThis, key, { value, configurable: true, writable: true });
  }
  return dawn;
}

function dawnFlags(options: NodeGpuOptions, adapter: string | undefined): string[] {
  const enabled = [...ENABLED, ...(options.unchecked ? UNCHECKED : []), ...(options.enable ?? [])];
  const flags = [
    `enable-dawn-features=${enabled.join(',')}`,
    `disable-dawn-features=${[...DISABLED, ...(options.disable ?? [])].join(',')}`,
  ];
  if (options.backend !== undefined) flags.push(`backend=${options.backend}`);
  if (adapter !== undefined && options.backend !== 'null') flags.push(`adapter=${adapter}`);
  return flags;
}

/** Dawn aborts the process if its GPU object is collected while a device lives, so none ever is. */
function createGpu(dawn: Dawn, flags: string[]): GPU {
  const root = globalThis as { ensampleGpus?: GPU[] };
  const gpu = dawn.create(flags);
  (root.ensampleGpus ??= []).push(gpu);
  return gpu;
}

function mayUseSoftware(wanted: string | undefined): boolean {
  return wanted === undefined || /swiftshader/i.test(wanted);
}

function missing(wanted: string | undefined, { reason }: Missing): string {
  const what =
    wanted === undefined ? 'No WebGPU adapter was found.' : `No WebGPU adapter is named "${wanted}".`;
  return reason === undefined ? what : `${what} Dawn says: ${reason.trim()}.`;
}

function notice(info: GPUAdapterInfo): string {
  const name = /swiftshader/i.test(info.architecture) ? 'SwiftShader' : info.description.split(':', 1)[0];
  return `No GPU found: using the ${name} software driver (slow).`;
}
