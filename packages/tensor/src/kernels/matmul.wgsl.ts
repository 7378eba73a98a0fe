/**
 * How a product is stored: outputs n and n + 1 of a row, n even, where the last of an odd number comes without a
 * partner. \`y\` is [rows, dims.z], and half as wide where outputs are gates and what they let through, in turns.
 */
export const assign = /* wgsl */ `
fn store(row: u32, n: u32, values: vec2f) {
  let at = row * dims.z + dims.w + n;
  y[at] = narrow(values.x);
  if (n + 1u < dims.y) { y[at + 1u] = narrow(values.y); }
}
`;

export const accumulate = /* wgsl */ `
fn store(row: u32, n: u32, values: vec2f) {
  let at = row * dims.z + dims.w + n;
  y[at] = narrow(f32(y[at]) + values.x);
  if (n + 1u < dims.y) { y[at + 1u] = narrow(f32(y[at + 1u]) + values.y); }
}
`;

export const gated = /* wgsl */ `
fn store(row: u32, n: u32, values: vec2f) {
  let gate = values.x;
  y[(row * dims.z + dims.w + n) / 2u] = narrow(gate / (1.0 + exp(-gate)) * values.y);
}
`;

/** Bindings shared by all products: Y[m, dims.w + n] (+)= Σk X[m, k] · W[n, k]. */
export const productBindings = /* wgsl */ `
@group(0) @binding(2) var<storage, read> batch: array<vec4u>;     // [1 + rows]
@group(0) @binding(3) var<uniform> dims: vec4u;                   // columns, rows of this block of W, stride of Y, first column of Y
@group(0) @binding(4) var<storage, read> x: array<vec4<X>>;       // [rows, columns / 4]
@group(0) @binding(5) var<storage, read_write> y: array<Y>;       // [rows, dims.z], see store
`;

/**
 * Up to ROWS ≤ 4 rows: a workgroup computes four outputs for all of them, its invocations sharing
 * the columns. Reads every weight once, 16 bytes at a time.
 */
export const vectorBody = /* wgsl */ `
fn run(group: vec3u, lane: u32) {
  let first = group.x * 4u;
  let rows = min(batch[0].x, ROWS);
  if (rows == 0u) { return; }
  let last = dims.y - 1u;
  let n = vec4u(min(first, last), min(first + 1u, last), min(first + 2u, last), min(first + 3u, last));
  let loads = dims.x / (4u * QUADS);
  let last_row = arrayLength(&x) / (dims.x / 4u) - 1u;
  var sums: array<vec4f, ROWS>;
  for (var i = lane; i < loads; i += REDUCE_WIDTH) {
    let w0 = weights16(n.x, i);
    let w1 = weights16(n.y, i);
    let w2 = weights16(n.z, i);
    let w3 = weights16(n.w, i);
    let scale = vec4f(load_scale(n.x, i), load_scale(n.y, i), load_scale(n.z, i), load_scale(n.w, i));
    for (var m = 0u; m < ROWS; m++) {
      var products = vec4f();
      for (var q = 0u; q < QUADS; q++) {
        let v = vec4f(x[min(m, last_row) * (dims.x / 4u) + i * QUADS + q]);
        products += vec4f(dot(v, w0[q]), dot(v, w1[q]), dot(v, w2[q]), dot(v, w3[q]));
      }
      sums[m] += products * scale;
    }
  }
  for (var m = 0u; m < ROWS; m++) {
    // This loop holds a barrier and so is not unrolled: what it indexed would live in memory.
    var own = vec4f();
    for (var r = 0u; r < ROWS; r++) { if (r == m) { own = sums[r]; } }
    let total = reduce_add4(own, lane);
    let n = first + 2u * lane;
    if (lane < 2u && m < rows && n < dims.y) { store(m, n, select(total.xy, total.zw, lane == 1u)); }
  }
}
`;

/**
 * Any number of rows: a workgroup of 16 · ROW_GROUPS computes a tile of ROW_TILE · ROW_GROUPS rows × 64 outputs from workgroup
 * memory, TILE_QUADS quads of columns a round (never across two groups of 32); an invocation ROW_TILE rows × 4 outputs, in
 * pairs 32 apart.
 *
 * Weights lie by quad, even outputs before odd ones, in strides that are odd or begin halfway around the banks, so that
 * invocations side by side read and write without bank conflicts.
 */
export const tileBody = /* wgsl */ `
const WIDTH = 16u * ROW_GROUPS;
const TILE_ROWS = ROW_TILE * ROW_GROUPS;
const ODD = 36u;                                                  // where odd outputs begin
const W_STRIDE = 73u;
const X_STRIDE = TILE_QUADS + 1u;
var<workgroup> x_tile: array<vec4f, TILE_ROWS * X_STRIDE>;
var<workgroup> w_tile: array<vec4f, TILE_QUADS * W_STRIDE>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let rows = batch[0].x;
  let row0 = group.y * TILE_ROWS;
  if (row0 >= rows) { return; }
  let n0 = group.x * 64u;
  let quads = dims.x / 4u;
  let pair = lane % 16u;
  let row = lane / 16u;
  var sums: array<vec4f, ROW_TILE>;
  for (var k = 0u; k < quads; k += TILE_QUADS) {
    workgroupBarrier();
    for (var i = lane; i < TILE_ROWS * TILE_QUADS; i += WIDTH) {
      let at = k + i % TILE_QUADS;
      let m = row0 + i / TILE_QUADS;
      let v = vec4f(x[min(m, rows - 1u) * quads + min(at, quads - 1u)]);
      x_tile[i / TILE_QUADS * X_STRIDE + i % TILE_QUADS] = select(vec4f(), v, m < rows && at < quads);
    }
    for (var i = lane; i < 64u * TILE_QUADS; i += WIDTH) {
      let at = min(k + i % TILE_QUADS, quads - 1u);
      let output = i / TILE_QUADS;
      let n = min(n0 + output, dims.y - 1u);
      w_tile[i % TILE_QUADS * W_STRIDE + output / 2u + output % 2u * ODD] = weight4(n, at) * group_scale(n, at);
    }
    workgroupBarrier();
    for (var q = 0u; q < TILE_QUADS; q++) {
      let at = q * W_STRIDE + pair;
      let w = mat4x4f(w_tile[at], w_tile[at + ODD], w_tile[at + 16u], w_tile[at + ODD + 16u]);
      for (var m = 0u; m < ROW_TILE; m++) { sums[m] += x_tile[(row + ROW_GROUPS * m) * X_STRIDE + q] * w; }
    }
  }
  for (var m = 0u; m < ROW_TILE; m++) {
    let r = row0 + row + ROW_GROUPS * m;
    let n = n0 + 2u * pair;
    if (r < rows && n < dims.y) { store(r, n, sums[m].xy); }
    if (r < rows && n + 32u < dims.y) { store(r, n + 32u, sums[m].zw); }
  }
}
`;
