/**
 * What subgroup-matrix products read. \`x\`, at any binding: \`load_x(i)\` gives eight columns as f16 bits,
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
 * How subgroup-matrix products take weights, per format: \`load_w(i)\` reads LOAD_COLUMNS columns, load i of the matrix,
 * \`unpack_w(at, load)\` puts them as f16 into tiles from place \`at\` (of 16 bytes) on.
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
fn unpack_w(at: u32, load: Load) { tiles[at] = load; }
`;

export const f16Loads = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 8]
@group(0) @binding(1) var<storage, read> scales: array<u32>;
const LOAD_COLUMNS = 8u;
alias Load = vec4u;
fn load_w(i: u32) -> Load { return words[i]; }
fn unpack_w(at: u32, load: Load) { tiles[at] = load; }
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
fn unpack_w(at: u32, load: Load) {
  let scale = bitcast<vec2<f16>>(load.scale).x;
  tiles[at] = vec4u(four(load.words.x, scale), four(load.words.y, scale));
  tiles[at + 1u] = vec4u(four(load.words.z, scale), four(load.words.w, scale));
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
fn eight(word: u32, scale: f16) -> vec4u {
  let nibbles = word ^ 0x88888888u;                                // + 8; byte j holds columns j and 4 + j
  let a = pair(nibbles, scale);
  let b = pair(nibbles >> 8u, scale);
  let c = pair(nibbles >> 4u, scale);
  let d = pair(nibbles >> 12u, scale);
  return vec4u(
    bitcast<u32>(vec2<f16>(a.x, b.x)), bitcast<u32>(vec2<f16>(a.y, b.y)),
    bitcast<u32>(vec2<f16>(c.x, d.x)), bitcast<u32>(vec2<f16>(c.y, d.y)),
  );
}
fn unpack_w(at: u32, load: Load) {
  let scale = bitcast<vec2<f16>>(load.scale).x;
  for (var j = 0u; j < 4u; j++) { tiles[at + j] = eight(load.words[j], scale); }
}
`;
