import { readFileSync } from 'node:fs';
import { InvalidModelError } from '@ensample/tensor';
import { describe, expect, it } from 'vitest';
import { openSafetensors } from '../src/safetensors.ts';
import { bytesSource, packTensors, safetensorsFile } from '@ensample/testing';

const open = (bytes: Uint8Array<ArrayBuffer>) => openSafetensors(bytesSource(bytes), 'm.safetensors');

describe('openSafetensors', () => {
  it('lists tensors and reads one', async () => {
    const file = await open(
      packTensors({
        a: { dtype: 'I8', shape: [3], data: new Int8Array([1, -2, 3]) },
        b: { dtype: 'F32', shape: [1, 2], data: new Float32Array([0.5, 2]) },
      }),
    );
    expect([...file.tensors.keys()]).toEqual(['a', 'b']);
    expect(file.tensors.get('b')).toMatchObject({ dtype: 'F32', shape: [1, 2], byteLength: 8 });
    const bytes = await file.read('b');
    expect([...new Float32Array(bytes.slice().buffer)]).toEqual([0.5, 2]);
    await expect(file.read('c')).rejects.toThrow('m.safetensors has no tensor c.');
  });

  it('reads js-1m-draft and refuses it cut short', async () => {
    const bytes = new Uint8Array(
      readFileSync(new URL('../../model-js/models/js-1m-draft/model.safetensors', import.meta.url)),
    );
    const file = await open(bytes);
    expect(file.tensors.size).toBe(35);
    expect(file.tensors.get('model.embed_tokens.weight')).toMatchObject({ dtype: 'I8', shape: [8192, 128] });
    await expect(open(bytes.slice(0, bytes.length - 1))).rejects.toThrow(
      /tensor \S+ ends at byte .* truncated/,
    );
    await expect(open(bytes.slice(0, 100))).rejects.toThrow('header length is 3632, at most 92 fits');
  });

  const tensor = (over: object): object => ({
    t: { dtype: 'I8', shape: [4], data_offsets: [0, 4], ...over },
  });
  const two = (begin: number): object => ({
    ...tensor({}),
    u: { dtype: 'I8', shape: [4], data_offsets: [begin, begin + 4] },
  });
  const refused: [string, unknown, number, string][] = [
    ['bad JSON', '{"t": ', 4, 'm.safetensors: the header is not JSON ("{\\"t\\": ")'],
    ['an array', [], 0, 'm.safetensors: the content is []; expected a JSON object'],
    ['a tensor that is a number', { t: 1 }, 0, 'm.safetensors: t is 1; expected a JSON object'],
    ['an unknown dtype', tensor({ dtype: 'Q4' }), 4, 't.dtype is "Q4"; expected one of F64, F32'],
    [
      'a dtype from the prototype',
      tensor({ dtype: 'toString' }),
      4,
      't.dtype is "toString"; expected one of',
    ],
    ['no shape', tensor({ shape: null }), 4, 't.shape is missing; expected an array of sizes'],
    ['a negative size', tensor({ shape: [-4] }), 4, 't.shape is [-4]; expected an array of sizes'],
    [
      'absurd sizes',
      tensor({ shape: [1e9, 1e9] }),
      4,
      'tensor t of I8 [1000000000, 1000000000] takes 1000000000000000000 bytes',
    ],
    [
      'wrong size',
      tensor({ shape: [2, 3] }),
      4,
      'tensor t of I8 [2, 3] takes 6 bytes, its data_offsets span 4',
    ],
    [
      'backward offsets',
      tensor({ data_offsets: [4, 0] }),
      4,
      't.data_offsets is [4,0]; expected [begin, end]',
    ],
    ['data outside', tensor({}), 3, 'tensor t ends at byte 4 of the data, which has 3'],
    ['an overlap', two(2), 8, 'tensor u begins at byte 2, expected 4: it overlaps'],
    ['a hole', two(6), 10, 'tensor u begins at byte 6, expected 4: it leaves a hole'],
    ['bytes left over', tensor({}), 6, 'm.safetensors: 2 bytes follow the last tensor'],
  ];
  it.each(refused)('refuses %s', async (_, header, dataBytes, message) => {
    const opened = open(safetensorsFile(header, new Uint8Array(dataBytes)));
    await expect(opened).rejects.toThrow(InvalidModelError);
    await expect(opened).rejects.toThrow(message);
  });

  it('refuses an empty file and an absurd header length', async () => {
    await expect(open(new Uint8Array(3))).rejects.toThrow('m.safetensors has 3 bytes; the file is truncated');
    await expect(open(new Uint8Array(64).fill(255))).rejects.toThrow(
      'header length is 18446744073709551615, at most 56',
    );
    const huge = { size: 2 ** 31, read: () => Promise.resolve(new Uint8Array([0, 0, 0, 16, 0, 0, 0, 0])) };
    await expect(openSafetensors(huge, 'm')).rejects.toThrow(
      'header length is 268435456, at most 100000000 fits',
    );
  });
});
