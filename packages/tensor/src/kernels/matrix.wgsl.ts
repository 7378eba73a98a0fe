/**
 * Where load i of a row of weights lies, of LOAD_COLUMNS columns, and how far it is to the next: row by row, and in panels of 16 rows,
 * [rows / 16, columns / 8, 16].
 */
export const rowOrder = /* wgsl */ `
const LOAD_STEP = 1u;
fn load_at(row: u32, i: u32) -> u32 { return row * (dims.x / LOAD_COLUMNS) + i; }
`;
export const panelOrder = /* wgsl */ `
const LOAD_STEP = 16u;
fn load_at(row: u32, i: u32) -> u32 { return (row / 16u * (dims.x / 8u) + i) * 16u + row % 16u; }
`;

/**
 * How weights are decoded, for f16 with one of these orders. Each chunk declares the bindings \`words\` and \`scales\` and
 *   weight4(row, k4)      four values of a row, from column 4 * k4, before scaling
 *   group_scale(row, k4)  the scale of the group of 32 columns that they are in
 * \`dims.x\` is the number of columns. Only int8 and int4 read \`scales\`; the 16 by which unpacked int4 values are too
 * large is taken back there.
 */
export const f32Quad = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 4]
@group(0) @binding(1) var<storage, read> scales: array<u32>;

fn weight4(row: u32, k4: u32) -> vec4f { return bitcast<vec4f>(words[row * (dims.x / 4u) + k4]); }
fn group_scale(row: u32, k4: u32) -> f32 { return 1.0; }
`;

export const f16Quad = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec2u>;     // pairs of f16, two in a load
@group(0) @binding(1) var<storage, read> scales: array<u32>;
const LOAD_COLUMNS = 8u;

fn weight4(row: u32, k4: u32) -> vec4f {
  let pairs = words[2u * load_at(row, k4 / 2u) + k4 % 2u];
  return vec4f(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
}
fn group_scale(row: u32, k4: u32) -> f32 { return 1.0; }
`;

export const int8Quad = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<u32>;       // [rows, columns / 4]: four signed bytes
@group(0) @binding(1) var<storage, read> scales: array<u32>;      // [rows, columns / 32] of f16, in pairs

fn weight4(row: u32, k4: u32) -> vec4f { return vec4f(unpack4xI8(words[row * (dims.x / 4u) + k4])); }
fn group_scale(row: u32, k4: u32) -> f32 {
  let group = row * (dims.x / 32u) + k4 / 8u;
  return unpack2x16float(scales[group / 2u] >> (16u * (group % 2u))).x;
}
`;

export const int4Quad = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<u32>;       // [rows, columns / 8]: columns 0 … 3 low, 4 … 7 high
@group(0) @binding(1) var<storage, read> scales: array<u32>;      // [rows, columns / 32] of f16, in pairs

fn weight4(row: u32, k4: u32) -> vec4f {
  let word = words[row * (dims.x / 8u) + k4 / 2u];
  return vec4f(unpack4xI8(select(word, word << 4u, k4 % 2u == 0u) & 0xf0f0f0f0u));
}
fn group_scale(row: u32, k4: u32) -> f32 {
  let group = row * (dims.x / 32u) + k4 / 8u;
  return unpack2x16float(scales[group / 2u] >> (16u * (group % 2u))).x * 0.0625;
}
`;

/**
 * The same weights, 16 bytes at a load:
 *   QUADS                 vec4f in a load
 *   weights16(row, i)     load i of a row, before scaling
 *   load_scale(row, i)    the scale of that load
 */
export const f32Wide = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 4]
@group(0) @binding(1) var<storage, read> scales: array<u32>;
const QUADS = 1u;

fn weights16(row: u32, i: u32) -> array<vec4f, QUADS> {
  return array<vec4f, QUADS>(bitcast<vec4f>(words[row * (dims.x / 4u) + i]));
}
fn load_scale(row: u32, i: u32) -> f32 { return 1.0; }
`;

export const f16Wide = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // a load each
@group(0) @binding(1) var<storage, read> scales: array<u32>;
const LOAD_COLUMNS = 8u;
const QUADS = 2u;

fn weights16(row: u32, i: u32) -> array<vec4f, QUADS> {
  let w = words[load_at(row, i)];
  return array<vec4f, QUADS>(
    vec4f(unpack2x16float(w.x), unpack2x16float(w.y)),
    vec4f(unpack2x16float(w.z), unpack2x16float(w.w)),
  );
}
fn load_scale(row: u32, i: u32) -> f32 { return 1.0; }
`;

export const int8Wide = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 16]
@group(0) @binding(1) var<storage, read> scales: array<u32>;      // [rows, columns / 32] of f16, in pairs
const QUADS = 4u;

fn weights16(row: u32, i: u32) -> array<vec4f, QUADS> {
  let w = words[row * (dims.x / 16u) + i];
  return array<vec4f, QUADS>(
    vec4f(unpack4xI8(w.x)), vec4f(unpack4xI8(w.y)), vec4f(unpack4xI8(w.z)), vec4f(unpack4xI8(w.w)),
  );
}
fn load_scale(row: u32, i: u32) -> f32 {
  let group = row * (dims.x / 32u) + i / 2u;
  return unpack2x16float(scales[group / 2u] >> (16u * (group % 2u))).x;
}
`;

export const int4Wide = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 32]: a load is a group
@group(0) @binding(1) var<storage, read> scales: array<u32>;      // [rows, columns / 32] of f16, in pairs
const QUADS = 8u;

fn low4(word: u32) -> vec4f { return vec4f(unpack4xI8((word << 4u) & 0xf0f0f0f0u)); }
fn high4(word: u32) -> vec4f { return vec4f(unpack4xI8(word & 0xf0f0f0f0u)); }

fn weights16(row: u32, i: u32) -> array<vec4f, QUADS> {
  let w = words[row * (dims.x / 32u) + i];
  return array<vec4f, QUADS>(
    low4(w.x), high4(w.x), low4(w.y), high4(w.y), low4(w.z), high4(w.z), low4(w.w), high4(w.w),
  );
}
fn load_scale(row: u32, i: u32) -> f32 {
  let group = row * (dims.x / 32u) + i;
  return unpack2x16float(scales[group / 2u] >> (16u * (group % 2u))).x * 0.0625;
}
`;
