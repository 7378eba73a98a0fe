/** y[r] = x[r] / sqrt(mean(x[r]²) + EPS) * weight (RMSNorm); a workgroup a row. */
export const rmsNormHead = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;      // [1 + rows]
@group(0) @binding(1) var<storage, read> x: array<vec4f>;          // [rows, WIDTH / 4]
@group(0) @binding(2) var<storage, read> weight: array<vec4f>;     // [WIDTH / 4]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<Y>>;  // [rows, WIDTH / 4]

const_assert WIDTH % 4u == 0u;

fn scale_of(row: u32, squares: vec4f, lane: u32) -> f32 {
  let sums = reduce_add4(squares, lane);
  let root = inverseSqrt((sums.x + sums.y + sums.z + sums.w) / f32(WIDTH) + EPS);
  if (lane == 0u && row < batch[0].x) { keep(row, root); }
  return root;
}
`;

/** Whether a row's factor is kept. */
export const keepRoots = /* wgsl */ `
@group(0) @binding(4) var<storage, read_write> roots: array<f32>;   // [rows]
fn keep(row: u32, root: f32) { roots[row] = root; }
`;
export const dropRoots = /* wgsl */ `
fn keep(row: u32, root: f32) {}
`;

/** For few invocations: a row is read twice. */
export const rmsNormTwice = /* wgsl */ `
fn run(group: vec3u, lane: u32) {
  let row = group.x * (WIDTH / 4u);
  var squares = vec4f();
  for (var i = lane; i < WIDTH / 4u; i += REDUCE_WIDTH) {
    let v = x[row + i];
    squares += v * v;
  }
  let scale = scale_of(group.x, squares, lane);
  if (group.x >= batch[0].x) { return; }
  for (var i = lane; i < WIDTH / 4u; i += REDUCE_WIDTH) { y[row + i] = narrow4(x[row + i] * scale * weight[i]); }
}
`;

/** For GPUs: what follows the sum was loaded before it, so that a row waits for memory but once. */
export const rmsNormOnce = /* wgsl */ `
const OWN = (WIDTH / 4u + REDUCE_WIDTH - 1u) / REDUCE_WIDTH;       // vectors of a row that an invocation has

fn run(group: vec3u, lane: u32) {
  let row = group.x * (WIDTH / 4u);
  let live = group.x < batch[0].x;
  var values: array<vec4f, OWN>;
  var weights: array<vec4f, OWN>;
  var squares = vec4f();
  for (var i = 0u; i < OWN; i++) {
    let at = lane + REDUCE_WIDTH * i;
    values[i] = select(vec4f(), x[row + min(at, WIDTH / 4u - 1u)], at < WIDTH / 4u);
    weights[i] = weight[min(at, WIDTH / 4u - 1u)];
    squares += values[i] * values[i];
  }
  let scale = scale_of(group.x, squares, lane);
  for (var i = 0u; i < OWN; i++) {
    let at = lane + REDUCE_WIDTH * i;
    if (live && at < WIDTH / 4u) { y[row + at] = narrow4(values[i] * scale * weights[i]); }
  }
}
`;

/** Rotates the first HEADS heads of each row by its position (RoPE of neighbours), in place. */
export const ropeBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;       // [1 + rows]: token, position, …
@group(0) @binding(1) var<storage, read> angles: array<vec2f>;      // [positions, HEAD_DIM / 2]: cos, sin
@group(0) @binding(2) var<storage, read_write> x: array<f32>;       // [rows, STRIDE], heads first

const PAIRS = HEAD_DIM / 2u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= HEADS * PAIRS || id.y >= batch[0].x) { return; }
  let at = id.y * STRIDE + 2u * id.x;
  let turn = angles[batch[1u + id.y].y * PAIRS + id.x % PAIRS];
  let a = x[at];
  let b = x[at + 1u];
  x[at] = a * turn.x - b * turn.y;
  x[at + 1u] = b * turn.x + a * turn.y;
}
`;

/** What \`ropeBody\` would do to two outputs of a product whose outputs are heads, the first of them output \`at\` of all; and their store. */
export const turnChunk = /* wgsl */ `
@group(0) @binding(next) var<storage, read> angles: array<vec2f>;   // [positions, HEAD_DIM / 2]: cos, sin

fn turned(row: u32, at: u32, values: vec2f) -> vec2f {
  let turn = angles[batch[1u + row].y * (HEAD_DIM / 2u) + at % HEAD_DIM / 2u];
  return values * turn.x + values.yx * turn.y * vec2f(-1.0, 1.0);
}
fn store_both(row: u32, at: u32, values: vec2f) {
  y[row * dims.z + at] = narrow(values.x);
  y[row * dims.z + at + 1u] = narrow(values.y);
}
`;

export const ropeStore = /* wgsl */ `
fn store(row: u32, n: u32, values: vec2f) { store_both(row, dims.w + n, turned(row, dims.w + n, values)); }
`;

/** y[r] = weights[token of r], for the block of the vocabulary in \`words\`. */
export const embedBody = /* wgsl */ `
@group(0) @binding(2) var<storage, read> batch: array<vec4u>;      // [1 + rows]: token, position, …
@group(0) @binding(3) var<uniform> dims: vec4u;                    // columns, rows of this block, stride, first row
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;    // [rows, columns / 4]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let quads = dims.x / 4u;
  if (id.x >= quads || id.y >= batch[0].x) { return; }
  let token = batch[1u + id.y].x - dims.w;
  if (token >= dims.y) { return; }
  y[id.y * quads + id.x] = weight4(token, id.x) * group_scale(token, id.x);
}
`;
