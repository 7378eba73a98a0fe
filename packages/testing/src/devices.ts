import { Device, openDevice, supportedTiers, tiers, type Tier, type TierName } from '@ensample/tensor';
import { afterAll, afterEach, beforeAll, describe, test } from 'vitest';
import { nullGpu, testGpu } from './gpu.ts';

const collected = new WeakMap<Device, string[]>();

/** A device on the test adapter (`ENSAMPLE_ADAPTER`). Its uncaptured errors are kept for {@link expectNoErrors}. */
export async function testDevice(options: { tier?: TierName } = {}): Promise<Device> {
  return collectErrors(await openDevice(await testAdapter(), options));
}

/**
 * A device of any tier on Dawn's null backend: shaders are compiled and calls are validated, nothing is computed.
 * That backend offers every feature but lists no matrix sizes, so the tier is set here, not chosen by the adapter.
 * @param claimed limits of a larger device, with subgroups of 32: kernels are chosen and can be checked (`KernelCheck`) as
 * if it had them, but pipelines that need them cannot be made.
 */
export async function nullDevice(tier: TierName, claimed?: ClaimedLimits): Promise<Device> {
  const adapter = await (await nullGpu()).requestAdapter();
  if (!adapter) throw new Error('Dawn has no null backend');
  const requiredFeatures = [...tiers[tier].features] as GPUFeatureName[];
  const gpu = await adapter.requestDevice({ requiredFeatures });
  if (!claimed) return collectErrors(new Device(gpu, tiers[tier], adapter.info));
  const info = claimingSubgroups(adapter.info);
  return collectErrors(new Device(claiming(gpu, claimed), tiers[tier], info));
}

/** Limits that {@link nullDevice} has in name only. */
export type ClaimedLimits = Readonly<Partial<Record<keyof GPUSupportedLimits, number>>>;

/** The limits of a large GPU that kernels depend on. */
export const largeGpu: ClaimedLimits = {
  maxComputeWorkgroupStorageSize: 48 * 1024,
  maxComputeInvocationsPerWorkgroup: 1024,
};

/** The same device with limits in name only. */
export function claiming(gpu: GPUDevice, claimed: ClaimedLimits): GPUDevice {
  return over(gpu, { limits: over(gpu.limits, claimed) });
}

/** The same adapter with subgroups of 32, in name only. */
export function claimingSubgroups(info: GPUAdapterInfo): GPUAdapterInfo {
  return over(info, { subgroupMinSize: 32, subgroupMaxSize: 32 });
}

function over<T extends object>(target: T, own: object): T {
  return new Proxy(target, {
    get: (_, key) => {
      const value: unknown = Reflect.get(key in own ? own : target, key);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

/** The adapter that {@link testDevice} opens. One adapter gives one device, so each call asks anew. */
export async function testAdapter(): Promise<GPUAdapter> {
  const adapter = await (await testGpu()).requestAdapter();
  if (!adapter) throw new Error('no WebGPU adapter to test on');
  return adapter;
}

/** Keeps a device's uncaptured errors for {@link expectNoErrors}. */
export function collectErrors(device: Device): Device {
  const errors: string[] = [];
  collected.set(device, errors);
  device.gpu.addEventListener('uncapturederror', (event) => {
    event.preventDefault();
    errors.push(event.error.message);
  });
  return device;
}

/** Fails if WebGPU reported an error that no call returned, since the last check. */
export async function expectNoErrors(device: Device): Promise<void> {
  await device.gpu.queue.onSubmittedWorkDone();
  const errors = collected.get(device)?.splice(0) ?? [];
  if (errors.length > 0) throw new Error(`${errors.length} uncaptured WebGPU errors: ${errors.join('\n')}`);
}

/** Fails if tensors are still allocated: what made them has not freed them. */
export function expectNothingAllocated(device: Device): void {
  const { bytes, buffers } = device.memory;
  if (bytes !== 0 || buffers !== 0)
    throw new Error(`${buffers} tensors of ${bytes} bytes in all were not destroyed`);
}

/** Why there is nothing to test of a tier on an adapter; undefined where there is something. */
export type NothingToTest = (tier: Tier, adapter: GPUAdapter) => string | undefined;

const notOffered: NothingToTest = (tier, adapter) =>
  supportedTiers(adapter).includes(tier.name)
    ? undefined
    : `not offered by ${driverName(adapter.info)} (needs ${tier.features.join(', ')})`;

/** For {@link eachTier}: leaves out a tier whose products another one has. */
export const sameProducts: NothingToTest = (tier, adapter) =>
  notOffered(tier, adapter) ??
  (tier.name === 'subgroups' && adapter.info.subgroupMinSize < smallestTeam
    ? `${driverName(adapter.info)} multiplies as on tier plain, its subgroups hold no team`
    : undefined);

const smallestTeam = 8;

const takesLong = (tier: TierName, info: GPUAdapterInfo): boolean =>
  tier !== 'software' && driverName(info) === 'SwiftShader';

/** Whether a device takes a second for each kernel, so that a test should have few of them. */
export function compilesSlowly({ tier, info }: Device): boolean {
  return takesLong(tier.name, info);
}

/**
 * For {@link eachTier}, of whole models: leaves out tiers where a model takes long to compile. One such test, of a
 * model's golden results, has them nevertheless.
 */
export const slowlyCompiled: NothingToTest = (tier, adapter) =>
  notOffered(tier, adapter) ??
  (takesLong(tier.name, adapter.info) ? 'SwiftShader takes a second for each kernel of a GPU' : undefined);

/**
 * Declares a suite for each tier that the test adapter has, and one skipped test for each tier that it lacks, named
 * after what is missing. Use it at the top level: `await eachTier((device) => { test(…, () => … device()) })`.
 * After each test no error may be left, after the suite no tensor.
 */
export async function eachTier(
  suite: (device: () => Device, tier: TierName) => void,
  nothing: NothingToTest = notOffered,
): Promise<void> {
  const adapter = await testAdapter();
  for (const tier of Object.values(tiers)) {
    const why = nothing(tier, adapter);
    if (why) test.skip(`${tier.name}: ${why}`, () => undefined);
    else
      describe(tier.name, () =>
        withDevice(
          () => testDevice({ tier: tier.name }),
          (device) => suite(device, tier.name),
        ),
      );
  }
}

/** Fills a suite with tests on a device of its own. After each no error may be left, after all no tensor. */
export function withDevice(open: () => Promise<Device>, suite: (device: () => Device) => void): void {
  let opened: Device | undefined;
  beforeAll(async () => {
    opened = await open();
  });
  const device = (): Device => {
    if (!opened) throw new Error('the device is there once tests run');
    return opened;
  };
  afterEach(() => expectNoErrors(device()));
  afterAll(() => {
    expectNothingAllocated(device());
    device().destroy();
  });
  suite(device);
}

/** Short name of a driver, as in "SwiftShader" or "llvmpipe". */
export function driverName(info: GPUAdapterInfo): string {
  if (/swiftshader/i.test(info.architecture + info.description)) return 'SwiftShader';
  return info.description.split(/[ (:]/, 1)[0] || info.vendor || 'this adapter';
}
