import { dequantize, quantize, type HostMatrix } from '@ensample/mixattn-model';
import { fromHalf, seeded, toHalf } from '@ensample/testing';
import { describe, expect, test } from 'vitest';
import { narrowF16 } from '../src/float-formats.ts';

const random = seeded(11);
const [rows, columns] = [6, 96];
// Without the far-off values that seeded normals hold on purpose: these cost a group its precision.
const values = random.normals(rows * columns).map((value) => Math.max(-3, Math.min(3, value)));
const exact: HostMatrix = { format: 'f32', rows, columns, data: values };

/** Mean squared error in units of the values' own mean square. */
function relativeError(rounded: Float32Array, of: Float32Array): number {
  const square = (sum: number, value: number) => sum + value * value;
  return rounded.map((value, i) => value - of[i]!).reduce(square, 0) / of.reduce(square, 0);
}

describe('quantize', () => {
  test.each([
    ['int8', 1, 3e-5],
    ['int4', 0.5, 9e-3],
  ] as const)('%s: size, and error as small as its steps allow', (format, bytes, most) => {
    const stored = quantize(exact, format);
    expect(stored.format).toBe(format);
    expect(stored.data.byteLength).toBe(bytes * rows * columns);
    const error = relativeError(dequantize(stored), values);
    expect(error).toBeLessThan(most);
    expect(error).toBeGreaterThan(most / 10);
  });

  test('what a format can hold exactly is held exactly', () => {
    // Levels −8 … 7 in any order, with scales of either sign that f16 can hold.
    const held = Float32Array.from({ length: rows * columns }, (_, i) => {
      const scale = (i >> 5) % 2 === 0 ? 0.25 : -0.375;
      return (((7 * i) % 16) - 8) * scale;
    });
    const matrix: HostMatrix = { format: 'f32', rows, columns, data: held };
    for (const format of ['int4', 'int8'] as const) {
      expect(relativeError(dequantize(quantize(matrix, format)), held)).toBeLessThan(
        format === 'int4' ? 1e-12 : 3e-5,
      );
    }
  });

  test('zeros stay zeros, and one large value leaves the others their signs', () => {
    const data = new Float32Array(64);
    data[40] = 100;
    data[41] = -14;
    const back = dequantize(quantize({ format: 'f32', rows: 1, columns: 64, data }, 'int4'));
    expect(back.slice(0, 32)).toEqual(new Float32Array(32));
    expect(back[40]).toBeCloseTo(100, 0);
    expect(back[41]).toBeLessThan(-10);
  });

  test('int8 and f16 become int4; what is as coarse already stays', () => {
    const int8 = quantize(exact, 'int8');
    expect(quantize(int8, 'int8')).toBe(int8);
    const int4 = quantize(int8, 'int4');
    expect(relativeError(dequantize(int4), values)).toBeLessThan(1e-2);
    expect(quantize(int4, 'int8')).toBe(int4);
    const f16: HostMatrix = { format: 'f16', rows, columns, data: Uint16Array.from(values, toHalf) };
    expect(relativeError(dequantize(quantize(f16, 'int4')), values)).toBeLessThan(1e-2);
  });

  test('columns that make no whole groups are refused', () => {
    const narrow: HostMatrix = { format: 'f32', rows: 2, columns: 48, data: new Float32Array(96) };
    expect(() => quantize(narrow, 'int4')).toThrow('a matrix of 2 × 48 cannot be stored as int4');
  });
});

test('narrowF16 rounds to the nearest, ties to even, and keeps what it can hold', () => {
  for (let bits = 0; bits < 0x7c00; bits += 7) expect(narrowF16(fromHalf(bits))).toBe(bits);
  for (const value of random.normals(500)) expect(narrowF16(value)).toBe(toHalf(value));
  expect(narrowF16(-1e9)).toBe(0xfc00);
});
