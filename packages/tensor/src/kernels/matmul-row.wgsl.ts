/**
 * Up to ROWS rows, subgroups of 32: LANES invocations of each of SPLITS subgroups share the columns of OUTPUTS outputs, which they
 * compute for all rows; those side by side have outputs side by side. A workgroup has SUBGROUPS. Weights are read once, 16 bytes at a
 * time; there is no barrier before the end. Squares for a norm are added up there too: in front they would delay the first weights.
 */
export const rowBody = /* wgsl */ `
const SIDES = 32u / LANES;                                        // outputs side by side
const OWN = SUBGROUPS / SPLITS * OUTPUTS * SIDES;                 // outputs of a workgroup
const PAIRS = OWN / 2u;
const WIDTH = 32u * SUBGROUPS;
const EIGHTS = LOAD_COLUMNS / 8u;
const_assert OWN % 2u == 0u && PAIRS <= 32u && ROWS * PAIRS <= WIDTH;
var<workgroup> totals: array<f32, ROWS * OWN * SPLITS>;           // [ROWS, OWN, SPLITS]
var<workgroup> square_totals: array<f32, SUBGROUPS * ROWS>;       // [ROWS, SUBGROUPS]

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let split = lane / 32u % SPLITS;
  let own_first = lane / (32u * SPLITS) * OUTPUTS * SIDES + lane % SIDES;
  let first = group.x * OWN + own_first;
  let loads = dims.x / LOAD_COLUMNS;
  var sums: array<f32, ROWS * OUTPUTS>;
  for (var i = split * LANES + lane % 32u / SIDES; i < loads; i += SPLITS * LANES) {
    var w: array<vec4u, OUTPUTS>;
    var scale: array<f32, OUTPUTS>;
    for (var o = 0u; o < OUTPUTS; o++) {
      let at = load_at(min(first + o * SIDES, dims.y - 1u), i);
      w[o] = load_w(at);
      scale[o] = scale_of(at);
    }
    for (var j = 0u; j < EIGHTS; j++) {
      var units: array<vec4u, OUTPUTS>;
      for (var o = 0u; o < OUTPUTS; o++) {
        units[o] = units_of(w[o]);
        w[o] = rest_of(w[o]);
      }
      for (var m = 0u; m < ROWS; m++) {
        let v = ordered(load_x(min(m * (dims.x / 8u), last_x_row()) + i * EIGHTS + j));
        for (var o = 0u; o < OUTPUTS; o++) { sums[m * OUTPUTS + o] += dot_eight(units[o], v) * scale[o]; }
      }
    }
  }
  if (ADDS_UP) {
    for (var m = 0u; m < ROWS; m++) {
      let total = subgroupAdd(square_sum(m, lane, WIDTH));
      if (lane % 32u == 0u) { square_totals[SUBGROUPS * m + lane / 32u] = total; }
    }
  }
  // Sums move up to the first place: indexed by a loop that compilers do not unroll, all would live in memory.
  for (var i = 0u; i < ROWS * OUTPUTS; i++) {
    let total = over_lanes(sums[0]);
    for (var j = 1u; j < ROWS * OUTPUTS; j++) { sums[j - 1u] = sums[j]; }
    let own = own_first + i % OUTPUTS * SIDES;
    if (lane % 32u < SIDES) { totals[(i / OUTPUTS * OWN + own) * SPLITS + split] = total; }
  }
  workgroupBarrier();
  let m = lane / PAIRS;
  let own = lane % PAIRS * 2u;
  let n = group.x * OWN + own;
  var kept = vec2f();
  if (m < min(ROWS, batch[0].x) && n < dims.y) {
    var sum = 0.0;
    for (var s = 0u; s < SUBGROUPS; s++) { sum += square_totals[SUBGROUPS * m + s]; }
    let factor = factor_from(sum, m, group.x == 0u && own == 0u);
    kept = store_and_get(m, n, vec2f(total_of(m * OWN + own), total_of(m * OWN + own + 1u)), factor);
  }
  keep_squares(m, group.x, lane, PAIRS, kept);
}

fn over_lanes(value: f32) -> f32 {
  var sum = value;
  for (var mask = SIDES; mask < 32u; mask *= 2u) { sum += subgroupShuffleXor(sum, mask); }
  return sum;
}

fn total_of(i: u32) -> f32 {
  var total = totals[i * SPLITS];
  for (var s = 1u; s < SPLITS; s++) { total += totals[i * SPLITS + s]; }
  return total;
}
`;

/**
 * How it takes weights, per format: \`load_w(i)\` reads LOAD_COLUMNS columns, load i of the matrix, \`units_of\` makes the first eight of
 * them f16 in the order that \`ordered\` brings those of x to, and \`rest_of\` moves up the others: indexed by a loop that compilers
 * do not unroll, a vector would live in memory. A dot product of both, times \`scale_of(i)\`, is one of the columns.
 *
 * Floats, after their \`load_w\`, are multiplied as they are and summed in f32.
 */
export const floatDots = /* wgsl */ `
fn scale_of(i: u32) -> f32 { return 1.0; }
fn units_of(w: vec4u) -> vec4u { return w; }
fn rest_of(w: vec4u) -> vec4u { return w; }
fn dot_eight(a: vec4u, b: vec4u) -> f32 {
  return dot(vec4f(unpack2x16float(a.x), unpack2x16float(a.y)), vec4f(unpack2x16float(b.x), unpack2x16float(b.y)))
    + dot(vec4f(unpack2x16float(a.z), unpack2x16float(a.w)), vec4f(unpack2x16float(b.z), unpack2x16float(b.w)));
}
`;

/**
 * Integers become f16 without conversions, which are slow on GPUs: in the last bits of 1024, whose f16 steps are 1, an unsigned
 * number q reads as 1024 + q. They are divided by so much that eight products with the largest operands stay in f16's range.
 */
export const int8Rows = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 16]: signed bytes
@group(0) @binding(1) var<storage, read> scales: array<u32>;      // [rows, columns / 32] of f16, in pairs
const LOAD_COLUMNS = 16u;
fn load_w(i: u32) -> vec4u { return words[i]; }
fn scale_of(i: u32) -> f32 { return 1024.0 * unpack2x16float(scales[i / 4u] >> (8u * (i & 2u))).x; }

fn even_bytes(bits: u32) -> u32 {
  let h = bitcast<vec2<f16>>((bits & 0x00ff00ffu) ^ 0x64806480u);   // 1024 + 128 + q
  return bitcast<u32>(fma(h, vec2<f16>(0.0009765625h), vec2<f16>(-1.125h)));
}
fn units_of(w: vec4u) -> vec4u {
  return vec4u(even_bytes(w.x), even_bytes(w.x >> 8u), even_bytes(w.y), even_bytes(w.y >> 8u));
}
fn rest_of(w: vec4u) -> vec4u { return w.zwzw; }
`;

export const int4Rows = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows, columns / 32]: a load is a group
@group(0) @binding(1) var<storage, read> scales: array<u32>;      // [rows, columns / 32] of f16, in pairs
const LOAD_COLUMNS = 32u;
fn load_w(i: u32) -> vec4u { return words[i]; }
fn scale_of(i: u32) -> f32 { return 64.0 * unpack2x16float(scales[i / 2u] >> (16u * (i & 1u))).x; }

// Byte j holds columns j and 4 + j; upper halves read as 1024 + 16 q.
fn low_halves(bits: u32) -> u32 {
  let h = bitcast<vec2<f16>>((bits & 0x000f000fu) ^ 0x64086408u);
  return bitcast<u32>(fma(h, vec2<f16>(0.015625h), vec2<f16>(-16.125h)));
}
fn high_halves(bits: u32) -> u32 {
  let h = bitcast<vec2<f16>>((bits & 0x00f000f0u) ^ 0x64806480u);
  return bitcast<u32>(fma(h, vec2<f16>(0.0009765625h), vec2<f16>(-1.125h)));
}
fn units_of(w: vec4u) -> vec4u {
  let odd = w.x >> 8u;
  return vec4u(low_halves(w.x), low_halves(odd), high_halves(w.x), high_halves(odd));
}
fn rest_of(w: vec4u) -> vec4u { return w.yzwx; }
`;

/** Integers are multiplied in f16, in which they are no more exact, eight products to a sum. */
export const integerDots = /* wgsl */ `
fn dot_eight(a: vec4u, b: vec4u) -> f32 {
  var sum = bitcast<vec2<f16>>(a.x) * bitcast<vec2<f16>>(b.x);
  sum = fma(bitcast<vec2<f16>>(a.y), bitcast<vec2<f16>>(b.y), sum);
  sum = fma(bitcast<vec2<f16>>(a.z), bitcast<vec2<f16>>(b.z), sum);
  sum = fma(bitcast<vec2<f16>>(a.w), bitcast<vec2<f16>>(b.w), sum);
  return f32(sum.x) + f32(sum.y);
}
`;
