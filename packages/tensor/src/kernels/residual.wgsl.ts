/**
 * What a product has to do with norms (RMSNorm) around it. \`square_sum\` adds up, of the parts in which a row's squares were
 * added up, those that invocations \`first\`, \`first + step\`, … have; \`factor_from\` makes the row's factor of all of them, and
 * \`keeps\` says who writes down their root. \`store_and_get\` stores outputs n and n + 1 of a row and returns what
 * \`keep_squares\` adds up over \`lanes\` invocations side by side.
 */
export const noNorm = /* wgsl */ `
const ADDS_UP = false;
fn square_sum(row: u32, first: u32, step: u32) -> f32 { return 0.0; }
fn factor_from(sum: f32, row: u32, keeps: bool) -> f32 { return 1.0; }
fn store_and_get(row: u32, n: u32, values: vec2f, factor: f32) -> vec2f {
  store(row, n, values);
  return vec2f();
}
fn keep_squares(row: u32, part: u32, lane: u32, lanes: u32, kept: vec2f) {}
`;

/** A sum over \`lanes\` invocations side by side: a power of two, up to 32. */
export const addAcross = /* wgsl */ `
fn add_across(own: f32, lanes: u32) -> f32 {
  var sum = own;
  for (var mask = 1u; mask < lanes; mask *= 2u) { sum += subgroupShuffleXor(sum, mask); }
  return sum;
}
`;

/**
 * What norms leave for each other: roots, 1 / √(mean(v²) + EPS), of a norm's rows at ROOTS and of the norm before at
 * ROOTS_BEFORE; behind them sums of squares, [rows, PARTS].
 */
export const leftByNorms = /* wgsl */ `
const MARGIN = 16.0;                       // a power of two, for rows that grow much from one norm to the next
fn row_of(row: u32) -> u32 { return min(row, max(batch[0].x, 1u) - 1u); }
fn square_at(row: u32, part: u32) -> u32 { return 2u * MOST_ROWS + row * PARTS + part; }
fn root_before(row: u32) -> f32 { return norms[ROOTS_BEFORE + row_of(row)]; }
`;

/** x holds rows as \`feedsNorm\` has stored them: what is left is to multiply results by the ratio of two norms' roots. */
export const readsNorm = /* wgsl */ `
const ADDS_UP = true;
fn square_sum(row: u32, first: u32, step: u32) -> f32 {
  var sum = 0.0;
  for (var i = first; i < PARTS; i += step) { sum += norms[square_at(row_of(row), i)]; }
  return sum;
}
fn factor_from(sum: f32, row: u32, keeps: bool) -> f32 {
  let root = inverseSqrt(sum / f32(NORM_WIDTH) + EPS);
  if (keeps && row < batch[0].x) { norms[ROOTS + row] = root; }
  return root / root_before(row) * MARGIN;
}

fn store_and_get(row: u32, n: u32, values: vec2f, factor: f32) -> vec2f {
  store(row, n, values * factor);
  return vec2f();
}
fn keep_squares(row: u32, part: u32, lane: u32, lanes: u32, kept: vec2f) {}
`;

/**
 * Adds to y, and stores y · weight for the product that reads it normalised, with the sums of y's squares. Their root is not known
 * before all of a row is: values are multiplied by that of the norm before, or they might leave the range of f16.
 */
export const feedsNorm = /* wgsl */ `
const ADDS_UP = false;
fn square_sum(row: u32, first: u32, step: u32) -> f32 { return 0.0; }
fn factor_from(sum: f32, row: u32, keeps: bool) -> f32 { return root_before(row) / MARGIN; }

fn store_and_get(row: u32, n: u32, values: vec2f, factor: f32) -> vec2f {
  let at = row * dims.z + n;
  var sum = vec2f(y[at] + values.x, 0.0);
  y[at] = sum.x;
  scaled[at] = Scaled(clamp(sum.x * weight[n] * factor, -65504.0, 65504.0));
  if (n + 1u < dims.y) {
    sum.y = y[at + 1u] + values.y;
    y[at + 1u] = sum.y;
    scaled[at + 1u] = Scaled(clamp(sum.y * weight[n + 1u] * factor, -65504.0, 65504.0));
  }
  return sum;
}

fn keep_squares(row: u32, part: u32, lane: u32, lanes: u32, kept: vec2f) {
  let sum = add_across(dot(kept, kept), lanes);
  if (lane % lanes == 0u && row < batch[0].x && part < PARTS) { norms[square_at(row, part)] = sum; }
}
`;

/** Bindings after those of a product, or of a kernel that adds up its slices. */
export const readsNormBindings = /* wgsl */ `
@group(0) @binding(next) var<storage, read_write> norms: array<f32>;  // see leftByNorms
`;
export const feedsNormBindings = /* wgsl */ `
@group(0) @binding(next) var<storage, read_write> norms: array<f32>;  // see leftByNorms
@group(0) @binding(next) var<storage, read> weight: array<f32>;       // [dims.z]
@group(0) @binding(next) var<storage, read_write> scaled: array<Scaled>; // [rows, dims.z]
`;
