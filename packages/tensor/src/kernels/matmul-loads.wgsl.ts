/**
 * What products for subgroups of 32 read. \`x\`, at any binding: \`load_x(i)\` gives eight columns as f16 bits,
 * \`last_x_row()\` where the last row begins, in eights.
 */
export const operandLoadsF16 = /* wgsl */ `
fn load_x(i: u32) -> vec4u { return x[i]; }
fn last_x_row() -> u32 { return arrayLength(&x) - dims.x / 8u; }
`;

export const operandLoadsF32 = /* wgsl */ `
fn halves(v: vec4f) -> vec2u {
  let h = clamp(v, vec4f(-65504.0), vec4f(65504.0));
  return vec2u(pack2x16float(h.xy), pack2x16float(h.zw));
}
fn load_x(i: u32) -> vec4u { return vec4u(halves(x[2u * i]), halves(x[2u * i + 1u])); }
fn last_x_row() -> u32 { return (arrayLength(&x) - dims.x / 4u) / 2u; }
`;

/**
 * How they take weights, per format: \`load_w(i)\` reads LOAD_COLUMNS columns, load i of the matrix, \`eight(load, j)\` makes
 * columns 8 j to 8 j + 7 of them f16.
 */
export const f32Loads = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 4]
@group(0) @binding(1) var<storage, read> scales: array<u32>;
const LOAD_COLUMNS = 8u;
alias Load = vec4u;
fn halves_of(bits: vec4u) -> vec2u {
  let h = clamp(bitcast<vec4f>(bits), vec4f(-65504.0), vec4f(65504.0));
  return vec2u(pack2x16float(h.xy), pack2x16float(h.zw));
}
fn load_w(i: u32) -> Load { return vec4u(halves_of(words[2u * i]), halves_of(words[2u * i + 1u])); }
fn eight(load: Load, j: u32) -> vec4u { return load; }
`;

export const f16Loads = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 8]
@group(0) @binding(1) var<storage, read> scales: array<u32>;
const LOAD_COLUMNS = 8u;
alias Load = vec4u;
fn load_w(i: u32) -> Load { return words[i]; }
fn eight(load: Load, j: u32) -> vec4u { return load; }
`;

/**
 * Integers become f16 without conversions, which are slow on GPUs: in the last bits of 1024, whose f16 steps are 1, an
 * unsigned number q reads as 1024 + q.
 */
export const int8Loads = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 16]: signed bytes
@group(0) @binding(1) var<storage, read> scales: array<u32>;      // [rows, columns / 32] of f16, in pairs
const LOAD_COLUMNS = 16u;
struct Load { words: vec4u, scale: u32 }

fn load_w(i: u32) -> Load { return Load(words[i], scales[i / 4u] >> (8u * (i & 2u))); }

fn four(word: u32, scale: f16) -> vec2u {
  let bytes = word ^ 0x80808080u;                                  // + 128
  let even = (bitcast<vec2<f16>>((bytes & 0x00ff00ffu) | 0x64006400u) - 1152.0h) * scale;
  let odd = (bitcast<vec2<f16>>(((bytes >> 8u) & 0x00ff00ffu) | 0x64006400u) - 1152.0h) * scale;
  return vec2u(bitcast<u32>(vec2<f16>(even.x, odd.x)), bitcast<u32>(vec2<f16>(even.y, odd.y)));
}
fn eight(load: Load, j: u32) -> vec4u {
  let scale = bitcast<vec2<f16>>(load.scale).x;
  return vec4u(four(load.words[2u * j], scale), four(load.words[2u * j + 1u], scale));
}
`;

export const int4Loads = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 32]: a load is a group
@group(0) @binding(1) var<storage, read> scales: array<u32>;      // [rows, columns / 32] of f16, in pairs
const LOAD_COLUMNS = 32u;
struct Load { words: vec4u, scale: u32 }

fn load_w(i: u32) -> Load { return Load(words[i], scales[i / 2u] >> (16u * (i & 1u))); }

fn pair(bits: u32, scale: f16) -> vec2<f16> {
  return (bitcast<vec2<f16>>((bits & 0x000f000fu) | 0x64006400u) - 1032.0h) * scale;
}
fn eight(load: Load, j: u32) -> vec4u {
  let scale = bitcast<vec2<f16>>(load.scale).x;
  let nibbles = load.words[j] ^ 0x88888888u;                       // + 8; byte j holds columns j and 4 + j
  let a = pair(nibbles, scale);
  let b = pair(nibbles >> 8u, scale);
  let c = pair(nibbles >> 4u, scale);
  let d = pair(nibbles >> 12u, scale);
  return vec4u(
    bitcast<u32>(vec2<f16>(a.x, b.x)), bitcast<u32>(vec2<f16>(a.y, b.y)),
    bitcast<u32>(vec2<f16>(c.x, d.x)), bitcast<u32>(vec2<f16>(c.y, d.y)),
  );
}
`;

/** `dot_eight` of products for few rows: in f32, and for integers in f16, in which they are no more exact. */
export const exactDots = /* wgsl */ `
fn dot_eight(a: vec4u, b: vec4u) -> f32 {
  return dot(vec4f(unpack2x16float(a.x), unpack2x16float(a.y)), vec4f(unpack2x16float(b.x), unpack2x16float(b.y)))
    + dot(vec4f(unpack2x16float(a.z), unpack2x16float(a.w)), vec4f(unpack2x16float(b.z), unpack2x16float(b.w)));
}
`;
export const halfDots = /* wgsl */ `
fn dot_eight(a: vec4u, b: vec4u) -> f32 {
  var sum = bitcast<vec2<f16>>(a.x) * bitcast<vec2<f16>>(b.x);
  for (var i = 1u; i < 4u; i++) { sum = fma(bitcast<vec2<f16>>(a[i]), bitcast<vec2<f16>>(b[i]), sum); }
  return f32(sum.x) + f32(sum.y);
}
`;
