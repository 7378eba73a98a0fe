// 16-bit floats are kept as their bits (Uint16Array): Float16Array is missing in Node 20 and in older browsers.

const F16_EXPONENT = 0x7c00;
const BF16_EXPONENT = 0x7f80;
const F32_EXPONENT = 0x7f800000;

/** IEEE half precision, as bits, to f32; exact. */
export function widenF16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  return Float32Array.from(bits, (half) => {
    const exponent = (half & F16_EXPONENT) >> 10;
    const fraction = half & 0x3ff;
    const magnitude =
      exponent === 0
        ? fraction * 2 ** -24
        : exponent === 31
          ? fraction
            ? NaN
            : Infinity
          : (1 + fraction / 1024) * 2 ** (exponent - 15);
    return half & 0x8000 ? -magnitude : magnitude;
  });
}

/** The bits of the nearest half-precision number, ties to even; too large becomes infinity. */
export function narrowF16(value: number): number {
  const size = Math.abs(value);
  const exponent = Math.max(-14, Math.floor(Math.log2(size || 2 ** -14)));
  const exact = size / 2 ** (exponent - 10);
  const floor = Math.floor(exact);
  const up = exact - floor > 0.5 || (exact - floor === 0.5 && floor % 2 === 1);
  // Steps of 2¹⁰ and more carry into the exponent by themselves; subnormal numbers have fewer.
  const bits = floor + (up ? 1 : 0) + (exponent + 14) * 1024;
  return (value < 0 ? 0x8000 : 0) | Math.min(bits, 0x7c00);
}

/** bfloat16, as bits, to f32; exact: it is the upper half of an f32. */
export function widenBF16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = (bits[i] ?? 0) << 16;
  return new Float32Array(words.buffer);
}

/** Index of the first NaN or infinity among f16 bits, else −1. */
export function firstNonFiniteF16(bits: Uint16Array): number {
  return firstWithExponent(bits, F16_EXPONENT);
}

/** Index of the first NaN or infinity among bfloat16 bits, else −1. */
export function firstNonFiniteBF16(bits: Uint16Array): number {
  return firstWithExponent(bits, BF16_EXPONENT);
}

/** Index of the first NaN or infinity, else −1. */
export function firstNonFiniteF32(values: Float32Array<ArrayBuffer>): number {
  return firstWithExponent(new Uint32Array(values.buffer, values.byteOffset, values.length), F32_EXPONENT);
}

/** NaN and infinity are the values whose exponent bits are all ones. */
function firstWithExponent(bits: Uint16Array | Uint32Array, mask: number): number {
  for (let i = 0; i < bits.length; i++) {
    if (((bits[i] ?? 0) & mask) === mask) return i;
  }
  return -1;
}
