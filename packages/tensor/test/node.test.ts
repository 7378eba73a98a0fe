import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { acquireDevice } from '../src/acquire.ts';
import { isSoftware } from '../src/capabilities.ts';
import { UnsupportedFeatureError } from '../src/errors.ts';
import { platformGpu } from '../src/gpu-browser.ts';
import { nodeGpu } from '../src/node.ts';

const { create } = vi.hoisted(() => ({ create: vi.fn<(flags: string[]) => GPU>() }));
vi.mock('webgpu', async (original) => {
  const dawn: { create: (flags: string[]) => GPU } = await original();
  create.mockImplementation(dawn.create);
  return { ...dawn, create };
});

const packageFolder = fileURLToPath(new URL('..', import.meta.url));

const DOUBLE = `
  @group(0) @binding(0) var<storage, read_write> data: array<u32>;
  @compute @workgroup_size(4) fn main(@builtin(global_invocation_id) id: vec3u) { data[id.x] *= 2u; }`;

async function double(device: GPUDevice, values: Uint32Array<ArrayBuffer>): Promise<Uint32Array> {
  const { STORAGE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
  const size = values.byteLength;
  const data = device.createBuffer({ size, usage: STORAGE | COPY_SRC | COPY_DST });
  const staging = device.createBuffer({ size, usage: MAP_READ | COPY_DST });
  device.queue.writeBuffer(data, 0, values);
  const module = device.createShaderModule({ code: DOUBLE });
  const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module } });
  const layout = pipeline.getBindGroupLayout(0);
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(
    0,
    device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: data } }] }),
  );
  pass.dispatchWorkgroups(values.length / 4);
  pass.end();
  encoder.copyBufferToBuffer(data, staging);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  return new Uint32Array(staging.getMappedRange().slice(0));
}

async function openDevice(gpu: GPU): Promise<GPUDevice> {
  const adapter = await gpu.requestAdapter();
  return await adapter!.requestDevice();
}

test('the adapter named by the environment computes', async () => {
  const gpu = await nodeGpu();
  const adapter = await gpu.requestAdapter();
  expect(JSON.stringify([adapter!.info.description, adapter!.info.device])).toMatch(
    new RegExp(process.env['ENSAMPLE_ADAPTER']!, 'i'),
  );
  const device = await adapter!.requestDevice();
  expect(await double(device, new Uint32Array([1, 2, 3, 4]))).toEqual(new Uint32Array([2, 4, 6, 8]));
  device.destroy();
});

test('the null backend validates shaders', async () => {
  const device = await openDevice(await nodeGpu({ backend: 'null' }));
  device.pushErrorScope('validation');
  device.createShaderModule({ code: 'fn main() -> u32 { return 1.5; }' });
  expect((await device.popErrorScope())?.message).toContain('1.5');
  device.destroy();
});

describe('without bounds checks', () => {
  const robust = () => create.mock.lastCall?.[0].join(' ').includes('disable_robustness') === false;

  test('only when asked for; what is in bounds is computed as before', async () => {
    const device = await acquireDevice({ unchecked: true });
    expect(robust()).toBe(false);
    expect(await double(device.gpu, new Uint32Array([5, 6, 7, 8]))).toEqual(
      new Uint32Array([10, 12, 14, 16]),
    );
    device.destroy();
    await nodeGpu({ backend: 'null', unchecked: false });
    expect(robust()).toBe(true);
    await nodeGpu({ backend: 'null' });
    expect(robust()).toBe(true);
  });

  test('browsers refuse, and say what to do', async () => {
    const attempt = platformGpu({ unchecked: true });
    await expect(attempt).rejects.toThrow(UnsupportedFeatureError);
    await expect(attempt).rejects.toThrow('leave out the option `unchecked`');
  });
});

test('an unknown adapter is refused with the name, what there is, and what to install', async () => {
  const attempt = nodeGpu({ adapter: 'Voodoo 2' });
  await expect(attempt).rejects.toThrow(UnsupportedFeatureError);
  await expect(attempt).rejects.toThrow(/"Voodoo 2".*mesa-vulkan-drivers.*@sparticuz\/chromium/s);
});

describe('a software driver in place of a GPU', () => {
  beforeEach(() => void vi.stubEnv('ENSAMPLE_ADAPTER', ''));
  afterEach(() => void vi.unstubAllEnvs());

  test('is announced once, unless it was asked for', async () => {
    const onNotice = vi.fn();
    const adapter = await (
      await nodeGpu({ onNotice })
    ).requestAdapter({ powerPreference: 'high-performance' });
    expect(onNotice).toHaveBeenCalledTimes(isSoftware(adapter!.info) ? 1 : 0);
    onNotice.mockClear();
    await nodeGpu({ adapter: adapter!.info.vendor === 'mesa' ? 'llvmpipe' : 'SwiftShader', onNotice });
    expect(onNotice).not.toHaveBeenCalled();
  });
});

describe.runIf(process.platform === 'linux' && process.arch === 'x64')('SwiftShader from npm', () => {
  let cache: string;
  beforeEach(async () => void (cache = await mkdtemp(join(tmpdir(), 'ensample-test-'))));
  afterEach(() => rm(cache, { recursive: true }));

  test('processes that unpack it at the same time do not disturb each other', async () => {
    const script = join(cache, 'unpack.mjs');
    await build({
      stdin: {
        contents: `import { addSoftwareDriver } from './src/software-driver.ts'; console.log(addSoftwareDriver())`,
        resolveDir: packageFolder,
      },
      ...{ bundle: true, format: 'esm', platform: 'node', outfile: script },
    });
    const env = { ...process.env, XDG_CACHE_HOME: cache };
    const start = async (): Promise<string> =>
      (await promisify(execFile)(process.execPath, [script], { env, cwd: packageFolder })).stdout;
    expect(await Promise.all([start(), start(), start()])).toEqual(['true\n', 'true\n', 'true\n']);
    expect(await readdir(join(cache, 'ensample'))).toEqual([expect.stringMatching(/^swiftshader-/)]);
  });
});
