/**
 * Up to ROWS rows: TEAM invocations that can shuffle compute four outputs for all of them, sharing the columns, a workgroup
 * of 128 as many outputs as it has teams. Every weight is read once, 16 bytes at a time, and there is no barrier at all; the
 * teams of a subgroup read the same of x, so that few read much of it.
 */
export const teamBody = /* wgsl */ `
const WIDTH = 128u;
const TEAMS = WIDTH / TEAM;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = (group.x * TEAMS + lane / TEAM) * 4u;
  let n = min(first + vec4u(0u, 1u, 2u, 3u), vec4u(dims.y - 1u));
  let quads = dims.x / 4u;
  let last_row = x_quads() / quads - 1u;
  var sums: array<vec4f, ROWS>;
  for (var i = lane % TEAM; i < quads / QUADS; i += TEAM) {
    let w0 = weights16(n.x, i);
    let w1 = weights16(n.y, i);
    let w2 = weights16(n.z, i);
    let w3 = weights16(n.w, i);
    let scale = vec4f(load_scale(n.x, i), load_scale(n.y, i), load_scale(n.z, i), load_scale(n.w, i));
    for (var m = 0u; m < ROWS; m++) {
      let v = x_load(min(m, last_row) * quads + i * QUADS);
      var products = vec4f();
      for (var q = 0u; q < QUADS; q++) {
        products += vec4f(dot(v[q], w0[q]), dot(v[q], w1[q]), dot(v[q], w2[q]), dot(v[q], w3[q]));
      }
      sums[m] += products * scale;
    }
  }
  for (var m = 0u; m < ROWS; m++) {
    var sum = sums[m];
    for (var mask = 1u; mask < TEAM; mask *= 2u) { sum += across(sum, mask); }
    if (lane % TEAM == m % TEAM && m < batch[0].x) {
      if (first < dims.y) { store(m, first, sum.xy); }
      if (first + 2u < dims.y) { store(m, first + 2u, sum.zw); }
    }
  }
}

fn across(v: vec4f, mask: u32) -> vec4f { return subgroupShuffleXor(v, mask); }
`;

/** Bindings, and QUADS quads of x from quad \`at\` on. */
export const teamF32 = /* wgsl */ `
@group(0) @binding(2) var<storage, read> batch: array<vec4u>;     // [1 + rows]
@group(0) @binding(3) var<uniform> dims: vec4u;                   // columns, rows of this block of W, stride of Y, first column of Y
@group(0) @binding(4) var<storage, read> x: array<vec4f>;         // [rows, columns / 4]
@group(0) @binding(5) var<storage, read_write> y: array<Y>;       // [rows, dims.z], see store

fn x_quads() -> u32 { return arrayLength(&x); }
fn x_load(at: u32) -> array<vec4f, QUADS> {
  var quads: array<vec4f, QUADS>;
  for (var q = 0u; q < QUADS; q++) { quads[q] = x[at + q]; }
  return quads;
}
`;

/** The same for x in f16, 16 bytes at a time: QUADS is even. */
export const teamF16 = /* wgsl */ `
@group(0) @binding(2) var<storage, read> batch: array<vec4u>;     // [1 + rows]
@group(0) @binding(3) var<uniform> dims: vec4u;                   // columns, rows of this block of W, stride of Y, first column of Y
@group(0) @binding(4) var<storage, read> x: array<vec4u>;         // [rows, columns / 8]
@group(0) @binding(5) var<storage, read_write> y: array<Y>;       // [rows, dims.z], see store

fn x_quads() -> u32 { return 2u * arrayLength(&x); }
fn x_load(at: u32) -> array<vec4f, QUADS> {
  var quads: array<vec4f, QUADS>;
  for (var q = 0u; q < QUADS; q += 2u) {
    let eight = x[(at + q) / 2u];
    quads[q] = vec4f(unpack2x16float(eight.x), unpack2x16float(eight.y));
    quads[q + 1u] = vec4f(unpack2x16float(eight.z), unpack2x16float(eight.w));
  }
  return quads;
}
`;
