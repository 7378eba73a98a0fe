/**
 * Products with subgroup matrices (16 × 16 × 16, f16 in, f32 out; subgroups of 32): a workgroup of four
 * subgroups computes 16 · ROW_TILES rows × 64 outputs. Weights and activations go through workgroup
 * memory as f16, COLUMN_TILE columns a round; the next round's weights are loaded while this one's are used.
 */
export const matrixBody = /* wgsl */ `
const TILE_ROWS = 16u * ROW_TILES;
const STRIDE = COLUMN_TILE + 8u;                                   // padded: fewer bank conflicts
const QUADS_A_ROW = COLUMN_TILE / 4u;
const W_QUADS = 64u * QUADS_A_ROW / 128u;                          // quads an invocation moves a round
var<workgroup> w_tile: array<f16, 64u * STRIDE>;
var<workgroup> x_tile: array<f16, TILE_ROWS * STRIDE>;
var<workgroup> y_tile: array<f32, 16u * 64u>;

fn put_x(at: u32, v: vec4f) {
  let h = vec4<f16>(clamp(v, vec4f(-65504.0), vec4f(65504.0)));
  x_tile[at] = h.x; x_tile[at + 1u] = h.y; x_tile[at + 2u] = h.z; x_tile[at + 3u] = h.w;
}

fn put_w(at: u32, v: vec4f) {
  let h = vec4<f16>(v);
  w_tile[at] = h.x; w_tile[at + 1u] = h.y; w_tile[at + 2u] = h.z; w_tile[at + 3u] = h.w;
}

fn weights_at(n0: u32, k: u32, i: u32) -> vec4f {
  let n = min(n0 + i / QUADS_A_ROW, dims.y - 1u);
  let at = k + i % QUADS_A_ROW;
  let inside = min(at, dims.x / 4u - 1u);
  return select(vec4f(), weight4(n, inside) * group_scale(n, inside), at < dims.x / 4u);
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let rows = batch[0].x;
  let row0 = group.y * TILE_ROWS;
  if (row0 >= rows) { return; }
  let n0 = group.x * 64u;
  let quads = dims.x / 4u;
  let column = (lane / 32u) * 16u;                                 // this subgroup's outputs
  var sums: array<subgroup_matrix_result<f32, 16, 16>, ROW_TILES>;
  var next: array<vec4f, W_QUADS>;
  for (var i = 0u; i < W_QUADS; i++) { next[i] = weights_at(n0, 0u, lane + 128u * i); }
  for (var k = 0u; k < quads; k += QUADS_A_ROW) {
    workgroupBarrier();
    for (var i = 0u; i < W_QUADS; i++) {
      let at = lane + 128u * i;
      put_w(at / QUADS_A_ROW * STRIDE + at % QUADS_A_ROW * 4u, next[i]);
    }
    for (var i = lane; i < TILE_ROWS * QUADS_A_ROW; i += 128u) {
      let m = row0 + i / QUADS_A_ROW;
      let at = k + i % QUADS_A_ROW;
      let v = select(vec4f(), vec4f(x[min(m, rows - 1u) * quads + min(at, quads - 1u)]), m < rows && at < quads);
      put_x(i / QUADS_A_ROW * STRIDE + i % QUADS_A_ROW * 4u, v);
    }
    workgroupBarrier();
    for (var i = 0u; i < W_QUADS; i++) { next[i] = weights_at(n0, k + QUADS_A_ROW, lane + 128u * i); }
    for (var c = 0u; c < COLUMN_TILE; c += 16u) {
      let w = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&w_tile, column * STRIDE + c, STRIDE);
      for (var m = 0u; m < ROW_TILES; m++) {
        let a = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&x_tile, m * 16u * STRIDE + c, STRIDE);
        sums[m] = subgroupMatrixMultiplyAccumulate(a, w, sums[m]);
      }
    }
  }
  for (var m = 0u; m < ROW_TILES; m++) {
    workgroupBarrier();
    subgroupMatrixStore<row_major>(&y_tile, column, sums[m], 64u);
    workgroupBarrier();
    for (var i = lane; i < 16u * 32u; i += 128u) {
      let r = row0 + m * 16u + i / 32u;
      let n = n0 + 2u * (i % 32u);
      if (r < rows && n < dims.y) { store(r, n, vec2f(y_tile[2u * i], y_tile[2u * i + 1u])); }
    }
  }
}
`;
