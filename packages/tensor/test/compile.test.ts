import {
  adjust,
  createBatch,
  embed,
  matmul,
  Recorder,
  rmsNorm,
  rope,
  sample,
  tally,
  tiers,
  uploadMatrix,
  type Device,
  type HostMatrix,
  type TierName,
  type WeightFormat,
} from '@ensample/tensor';
import { expectNoErrors, expectNothingAllocated, nullDevice, scope } from '@ensample/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const rows = 64;
const width = 64;
const vocab = 50;

function zeros(format: WeightFormat): HostMatrix {
  const shape = { rows: vocab, columns: width };
  const length = vocab * width;
  if (format === 'f32') return { ...shape, format, data: new Float32Array(length) };
  if (format === 'f16') return { ...shape, format, data: new Uint16Array(length) };
  const scales = new Uint16Array(length / 32);
  if (format === 'int8') return { ...shape, format, data: new Int8Array(length), scales };
  return { ...shape, format, data: new Uint8Array(length / 2), scales };
}

// Dawn's null backend compiles for every feature, whatever this machine's driver has.
describe.each(Object.keys(tiers) as TierName[])('every kernel of tier %s compiles', (tier) => {
  let device: Device;
  beforeAll(async () => {
    device = await nullDevice(tier);
  });
  afterAll(async () => {
    await expectNoErrors(device);
    expectNothingAllocated(device);
    device.destroy();
  });

  test.each(['f32', 'f16', 'int8', 'int4'] as const)('products and embedding, %s', async (format) => {
    const { own, destroy } = scope();
    const recorder = new Recorder(device);
    const batch = own(createBatch(device, rows));
    const { operands } = tiers[tier];
    const x = own(device.tensor(operands, [rows, width]));
    const y = own(device.tensor<'f32'>('f32', [rows, width]));
    const next = own(device.tensor(operands, [rows, width]));
    const weights = own(uploadMatrix(device, zeros(format)));
    for (const store of ['assign', 'accumulate', 'gated'] as const) {
      for (const count of [1, 2, 4, 16, 48, rows])
        matmul(recorder, { batch, x, weights, y: store === 'gated' ? next : y }, { rows: count, store });
    }
    embed(recorder, { batch, weights, y }, { rows });
    const recording = await recorder.finish();
    recording.submit();
    expect(recording.length).toBe(19);
    destroy();
  });

  test('norm, positions and sampling', async () => {
    const { own, destroy } = scope();
    const recorder = new Recorder(device);
    const batch = own(createBatch(device, rows));
    const f32 = () => own(device.tensor('f32', [rows, 2 * width]));
    const u32 = () => own(device.tensor('u32', [rows, 2 * width]));
    const x = f32();
    const y = f32();
    const angles = f32();
    const sequences = u32();
    const picks = u32();
    const normed = own(device.tensor(tiers[tier].operands, [rows, width]));
    rmsNorm(recorder, { batch, x, weight: angles, y: normed }, { width, eps: 1e-6, rows });
    rope(recorder, { batch, angles, x }, { heads: 2, headDim: 32, stride: width, rows });
    const adjusting = {
      ...{ batch, sequences, states: u32(), history: u32(), counts: u32() },
      ...{ logits: x, bias: angles, adjusted: y },
    };
    tally(recorder, adjusting, { vocab });
    adjust(recorder, adjusting, { vocab, rows });
    for (const size of [vocab, 128_000])
      sample(recorder, { batch, sequences, logits: x, adjusted: y, picks }, { vocab: size, rows });
    const recording = await recorder.finish();
    recording.submit();
    expect(recording.names).toEqual(['rms_norm', 'rope', 'tally', 'adjust', 'sample', 'sample']);
    destroy();
  });
});
