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

/** Floats of W: \`load_w(i)\` gives eight columns, load i of the matrix, as f16 bits. */
export const f32Words = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 4]
@group(0) @binding(1) var<storage, read> scales: array<u32>;
const LOAD_COLUMNS = 8u;
fn halves_of(bits: vec4u) -> vec2u {
  let h = clamp(bitcast<vec4f>(bits), vec4f(-65504.0), vec4f(65504.0));
  return vec2u(pack2x16float(h.xy), pack2x16float(h.zw));
}
fn load_w(i: u32) -> vec4u { return vec4u(halves_of(words[2u * i]), halves_of(words[2u * i + 1u])); }
`;

export const f16Words = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // a load each
@group(0) @binding(1) var<storage, read> scales: array<u32>;
const LOAD_COLUMNS = 8u;
fn load_w(i: u32) -> vec4u { return words[i]; }
`;

/** Which output of a workgroup, and which of its loads in a round, invocations side by side take: those that lie side by side. */
export const alongRows = /* wgsl */ `
const OUTPUT_STEP = W_UNITS;
const UNIT_STEP = 1u;
`;
export const acrossRows = /* wgsl */ `
const OUTPUT_STEP = 1u;
const UNIT_STEP = OUTPUTS;
`;

/**
 * How products on subgroup matrices take weights, for floats after those and for integers: \`load_w(i)\` reads LOAD_COLUMNS columns,
 * load i of the matrix, \`eights\` makes them f16, in the order that \`ordered\` brings those of x to.
 */
export const floatTiles = /* wgsl */ `
alias Load = vec4u;
fn eights(load: Load) -> array<vec4u, 1> { return array(load); }
`;

/**
 * Integers become f16 without conversions, which are slow on GPUs: in the last bits of 1024, whose f16 steps are 1, an
 * unsigned number q reads as 1024 + q. Two at a time, as they lie in a word: even columns of four, then odd ones.
 */
export const int8Loads = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 16]: signed bytes
@group(0) @binding(1) var<storage, read> scales: array<u32>;      // [rows, columns / 32] of f16, in pairs
const LOAD_COLUMNS = 16u;
struct Load { words: vec4u, scale: u32 }

fn load_w(i: u32) -> Load { return Load(words[i], scales[i / 4u] >> (8u * (i & 2u))); }

fn even_bytes(bits: u32, scale: f16) -> u32 {
  return bitcast<u32>((bitcast<vec2<f16>>((bits & 0x00ff00ffu) ^ 0x64806480u) - 1152.0h) * scale);
}
fn eight(w: vec2u, scale: f16) -> vec4u {
  return vec4u(even_bytes(w.x, scale), even_bytes(w.x >> 8u, scale), even_bytes(w.y, scale), even_bytes(w.y >> 8u, scale));
}
fn eights(load: Load) -> array<vec4u, 2> {
  let scale = bitcast<vec2<f16>>(load.scale).x;
  return array(eight(load.words.xy, scale), eight(load.words.zw, scale));
}
`;

export const int4Loads = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 32]: a load is a group
@group(0) @binding(1) var<storage, read> scales: array<u32>;      // [rows, columns / 32] of f16, in pairs
const LOAD_COLUMNS = 32u;
struct Load { words: vec4u, scale: u32 }

fn load_w(i: u32) -> Load { return Load(words[i], scales[i / 2u] >> (16u * (i & 1u))); }

// Byte j holds columns j and 4 + j; upper halves read as 1024 + 16 q.
fn low_halves(bits: u32, scale: f16) -> u32 {
  return bitcast<u32>((bitcast<vec2<f16>>((bits & 0x000f000fu) ^ 0x64086408u) - 1032.0h) * scale);
}
fn high_halves(bits: u32, scale: f16) -> u32 {
  let h = bitcast<vec2<f16>>((bits & 0x00f000f0u) ^ 0x64806480u);
  return bitcast<u32>(fma(h, vec2<f16>(0.0625h), vec2<f16>(-72.0h)) * scale);
}
fn eight(word: u32, scale: f16) -> vec4u {
  let odd = word >> 8u;
  return vec4u(low_halves(word, scale), low_halves(odd, scale), high_halves(word, scale), high_halves(odd, scale));
}
fn eights(load: Load) -> array<vec4u, 4> {
  let scale = bitcast<vec2<f16>>(load.scale).x;
  let words = load.words;
  return array(eight(words.x, scale), eight(words.y, scale), eight(words.z, scale), eight(words.w, scale));
}
`;

/** Columns of x in the order in which floats are taken, and integers. */
export const asTheyLie = /* wgsl */ `
fn ordered(v: vec4u) -> vec4u { return v; }
`;
export const evenThenOdd = /* wgsl */ `
fn ordered(v: vec4u) -> vec4u {
  let even = (v.xz & vec2u(0xffffu)) | (v.yw << vec2u(16u));
  let odd = (v.xz >> vec2u(16u)) | (v.yw & vec2u(0xffff0000u));
  return vec4u(even.x, odd.x, even.y, odd.y);
}
`;
