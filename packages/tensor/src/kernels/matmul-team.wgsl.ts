/**
 * Up to ROWS rows: a team of TEAM invocations that can shuffle computes OUTPUTS outputs for all of them, sharing the columns;
 * a workgroup of 128 has as many teams as it can. Weights are read once, there is no barrier at all, and teams side by side
 * read the same of x, so that few read much of it.
 *
 * Whatever the format, invocations side by side take eight columns each, so that what they read of W and of x lies side by
 * side too; AHEAD of these octets are on their way at once.
 */
export const teamBody = /* wgsl */ `
const WIDTH = 128u;
const TEAMS = WIDTH / TEAM;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = (group.x * TEAMS + lane / TEAM) * OUTPUTS;
  let octets = dims.x / 8u;
  let last_row = x_octets() / octets - 1u;
  var sums: array<f32, ROWS * OUTPUTS>;
  for (var i = lane % TEAM; i < octets; i += TEAM * AHEAD) {
    var loads: array<Octet, AHEAD * OUTPUTS>;
    for (var j = 0u; j < AHEAD; j++) {
      for (var o = 0u; o < OUTPUTS; o++) {
        loads[j * OUTPUTS + o] = load_octet(min(first + o, dims.y - 1u), min(i + TEAM * j, octets - 1u));
      }
    }
    for (var j = 0u; j < AHEAD; j++) {
      if (i + TEAM * j < octets) {
        var w: array<array<vec4f, 2>, OUTPUTS>;
        for (var o = 0u; o < OUTPUTS; o++) { w[o] = decode(loads[j * OUTPUTS + o]); }
        for (var m = 0u; m < ROWS; m++) {
          let v = load_x(min(m, last_row) * octets + i + TEAM * j);
          for (var o = 0u; o < OUTPUTS; o++) { sums[m * OUTPUTS + o] += dot(v[0], w[o][0]) + dot(v[1], w[o][1]); }
        }
      }
    }
  }
  // Sums move up to the first places: indexed by a loop that compilers do not unroll, all would live in memory.
  for (var i = 0u; i < ROWS * OUTPUTS; i += 2u) {
    let sum = vec2f(over_team(sums[0]), over_team(sums[1]));
    for (var j = 2u; j < ROWS * OUTPUTS; j++) { sums[j - 2u] = sums[j]; }
    let m = i / OUTPUTS;
    let n = first + i % OUTPUTS;
    if (lane % TEAM == m % TEAM && m < batch[0].x && n < dims.y) { store(m, n, sum); }
  }
}

fn over_team(value: f32) -> f32 {
  var sum = value;
  for (var mask = 1u; mask < TEAM; mask *= 2u) { sum += subgroupShuffleXor(sum, mask); }
  return sum;
}
`;

/** Bindings, and eight values of x. */
export const teamF32 = /* wgsl */ `
@group(0) @binding(2) var<storage, read> batch: array<vec4u>;     // [1 + rows]
@group(0) @binding(3) var<uniform> dims: vec4u;                   // columns, rows of this block of W, stride of Y, first column of Y
@group(0) @binding(4) var<storage, read> x: array<vec4f>;         // [rows, columns / 4]
@group(0) @binding(5) var<storage, read_write> y: array<Y>;       // [rows, dims.z], see store

fn x_octets() -> u32 { return arrayLength(&x) / 2u; }
fn load_x(i: u32) -> array<vec4f, 2> { return array<vec4f, 2>(x[2u * i], x[2u * i + 1u]); }
`;

export const teamF16 = /* wgsl */ `
@group(0) @binding(2) var<storage, read> batch: array<vec4u>;     // [1 + rows]
@group(0) @binding(3) var<uniform> dims: vec4u;                   // columns, rows of this block of W, stride of Y, first column of Y
@group(0) @binding(4) var<storage, read> x: array<vec4u>;         // [rows, columns / 8]
@group(0) @binding(5) var<storage, read_write> y: array<Y>;       // [rows, dims.z], see store

fn x_octets() -> u32 { return arrayLength(&x); }
fn load_x(i: u32) -> array<vec4f, 2> {
  let v = x[i];
  return array<vec4f, 2>(
    vec4f(unpack2x16float(v.x), unpack2x16float(v.y)),
    vec4f(unpack2x16float(v.z), unpack2x16float(v.w)),
  );
}
`;

/**
 * How teams read weights, per format: `load_octet(row, i)` reads columns 8 i to 8 i + 7 as they are stored, `decode` makes
 * them numbers.
 */
export const octetF32 = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4f>;     // [rows, columns / 4]
@group(0) @binding(1) var<storage, read> scales: array<u32>;
alias Octet = array<vec4f, 2>;

fn load_octet(row: u32, i: u32) -> Octet {
  let at = row * (dims.x / 4u) + 2u * i;
  return Octet(words[at], words[at + 1u]);
}
fn decode(w: Octet) -> array<vec4f, 2> { return w; }
`;

export const octetF16 = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // a load each
@group(0) @binding(1) var<storage, read> scales: array<u32>;
const LOAD_COLUMNS = 8u;
alias Octet = vec4u;

fn load_octet(row: u32, i: u32) -> Octet { return words[load_at(row, i)]; }
fn decode(w: Octet) -> array<vec4f, 2> {
  return array<vec4f, 2>(
    vec4f(unpack2x16float(w.x), unpack2x16float(w.y)),
    vec4f(unpack2x16float(w.z), unpack2x16float(w.w)),
  );
}
`;

export const octetInt8 = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec2u>;     // [rows, columns / 8]: signed bytes
@group(0) @binding(1) var<storage, read> scales: array<u32>;      // [rows, columns / 32] of f16, in pairs
struct Octet { words: vec2u, scale: f32 }

fn load_octet(row: u32, i: u32) -> Octet {
  let group = row * (dims.x / 32u) + i / 4u;
  return Octet(words[row * (dims.x / 8u) + i], unpack2x16float(scales[group / 2u] >> (16u * (group % 2u))).x);
}
fn decode(w: Octet) -> array<vec4f, 2> {
  return array<vec4f, 2>(bytes(w.words.x) * w.scale, bytes(w.words.y) * w.scale);
}
`;

export const octetInt4 = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<u32>;       // [rows, columns / 8]: columns 0 … 3 low, 4 … 7 high
@group(0) @binding(1) var<storage, read> scales: array<u32>;      // [rows, columns / 32] of f16, in pairs
struct Octet { word: u32, scale: f32 }

fn load_octet(row: u32, i: u32) -> Octet {
  let group = row * (dims.x / 32u) + i / 4u;
  return Octet(words[row * (dims.x / 8u) + i], unpack2x16float(scales[group / 2u] >> (16u * (group % 2u))).x);
}
fn decode(w: Octet) -> array<vec4f, 2> {
  return array<vec4f, 2>(low_nibbles(w.word) * w.scale, low_nibbles(w.word >> 4u) * w.scale);
}
`;

/** Signed integers of a word as numbers. */
export const integers = /* wgsl */ `
fn bytes(word: u32) -> vec4f { return vec4f(unpack4xI8(word)); }
fn low_nibbles(word: u32) -> vec4f { return vec4f(unpack4xI8((word << 4u) & 0xf0f0f0f0u)) * 0.0625; }
`;

/**
 * The same for devices with f16, without conversions of integers, which are slow on GPUs: in the last bits of 1024, whose f16
 * steps are 1, an unsigned number q reads as 1024 + q.
 */
export const integersF16 = /* wgsl */ `
fn bytes(word: u32) -> vec4f {
  let unsigned = word ^ 0x80808080u;                               // + 128
  let even = vec2f(bitcast<vec2<f16>>((unsigned & 0x00ff00ffu) | 0x64006400u) - 1152.0h);
  let odd = vec2f(bitcast<vec2<f16>>(((unsigned >> 8u) & 0x00ff00ffu) | 0x64006400u) - 1152.0h);
  return vec4f(even.x, odd.x, even.y, odd.y);
}
fn low_nibbles(word: u32) -> vec4f {
  let unsigned = word ^ 0x88888888u;                               // + 8
  let even = vec2f(bitcast<vec2<f16>>((unsigned & 0x000f000fu) | 0x64006400u) - 1032.0h);
  let odd = vec2f(bitcast<vec2<f16>>(((unsigned >> 8u) & 0x000f000fu) | 0x64006400u) - 1032.0h);
  return vec4f(even.x, odd.x, even.y, odd.y);
}
`;
