/**
 * Products with subgroup matrices (16 × 16 × 16, f16 in, f32 out; subgroups of 32). A workgroup computes
 * 16 · ROW_TILES · ROW_GROUPS rows × 16 · COLUMN_TILES · COLUMN_GROUPS outputs, a subgroup ROW_TILES × COLUMN_TILES tiles
 * of them. The columns of W are shared between SPLITS subgroups, which add up their sums at the end, and between SLICES
 * workgroups, whose sums another kernel adds up. Weights and operands go through workgroup memory as f16, DEPTH columns of
 * each split a round; those of the next AHEAD rounds are on their way meanwhile.
 *
 * Norms are prepared while the first loads are on their way. Loops over \`sums\` hold no barrier: compilers unroll only such, and an
 * indexed matrix would live in memory. Tiles are arrays by themselves and loops count by one, so that little is left of checks of
 * bounds; see \`panelBody\`. Sums lie where tiles were: the less memory a workgroup takes, the more of them there are at once
 * (docs/performance-log.md).
 */
export const matrixBody = /* wgsl */ `
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;
alias Totals = array<Sums, ROW_TILES * COLUMN_TILES>;

const WIDTH = 32u * ROW_GROUPS * COLUMN_GROUPS * SPLITS;
const TILE_ROWS = 16u * ROW_TILES * ROW_GROUPS;
const OUTPUTS = 16u * COLUMN_TILES * COLUMN_GROUPS;
const COLUMNS = DEPTH * SPLITS;                                    // of a round
const W_UNITS = COLUMNS / LOAD_COLUMNS;
const W_EIGHTS = LOAD_COLUMNS / 8u;
const X_UNITS = COLUMNS / 8u;
const W_LOADS = (OUTPUTS * W_UNITS + WIDTH - 1u) / WIDTH;          // an invocation's, a round
const X_LOADS = (TILE_ROWS * X_UNITS + WIDTH - 1u) / WIDTH;
const W_EVEN = OUTPUTS * W_UNITS % WIDTH == 0u;
const X_EVEN = TILE_ROWS * X_UNITS % WIDTH == 0u;
const PAIRS = COLUMNS / 32u;                                       // of tiles, side by side
const X_TILE = OUTPUTS / 16u * PAIRS;                              // where operands are, after the weights
// Sixteen rows of five: two tiles, or one of sums. Neither rows nor what follows meet in a bank.
alias Tile = array<vec4u, 84>;
var<workgroup> tiles: array<Tile, max(X_TILE + TILE_ROWS / 16u * PAIRS, Y_TILES)>;

struct Round { w: array<Load, W_LOADS>, x: array<vec4u, X_LOADS> }
struct Places { w: array<u32, W_LOADS>, x: array<u32, X_LOADS> }

fn row_tile_of(subgroup: u32) -> u32 { return subgroup / COLUMN_GROUPS % ROW_GROUPS * ROW_TILES; }
fn column_tile_of(subgroup: u32) -> u32 { return subgroup % COLUMN_GROUPS * COLUMN_TILES; }

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let begin = group.z * (dims.x / SLICES);
  let end = begin + dims.x / SLICES;
  let rounds = (end - begin + AHEAD * COLUMNS - 1u) / (AHEAD * COLUMNS);
  var sums: Totals;
  var places = places_of(group, lane);
  var one = loads_of(&places, begin);
  var two: Round;
  if (AHEAD == 2u) { two = loads_of(&places, min(begin + COLUMNS, end - COLUMNS)); }
  prepare(group, lane);
  for (var round = 0u; round < rounds; round++) {
    let k = begin + round * AHEAD * COLUMNS;
    take(&one, &sums, &places, min(k + AHEAD * COLUMNS, end - COLUMNS), lane);
    if (AHEAD == 2u && k + COLUMNS < end) { take(&two, &sums, &places, min(k + 3u * COLUMNS, end - COLUMNS), lane); }
  }
  finish(&sums, group, lane);
}

// Where an invocation's loads are in the first column; outputs past the last read it again, and so do rows of x.
fn places_of(group: vec3u, lane: u32) -> Places {
  var places: Places;
  for (var i = 0u; i < W_LOADS; i++) {
    let own = min(lane + WIDTH * i, OUTPUTS * W_UNITS - 1u);
    places.w[i] = load_at(min(group.x * OUTPUTS + own / OUTPUT_STEP % OUTPUTS, dims.y - 1u), own / UNIT_STEP % W_UNITS);
  }
  for (var i = 0u; i < X_LOADS; i++) {
    let unit = lane + WIDTH * i;
    places.x[i] = min((group.y * TILE_ROWS + unit / X_UNITS) * (dims.x / 8u), last_x_row()) + unit % X_UNITS;
  }
  return places;
}

fn loads_of(places: ptr<function, Places>, k: u32) -> Round {
  var loads: Round;
  for (var i = 0u; i < W_LOADS; i++) { loads.w[i] = load_w((*places).w[i] + k / LOAD_COLUMNS * LOAD_STEP); }
  for (var i = 0u; i < X_LOADS; i++) { loads.x[i] = load_x((*places).x[i] + k / 8u); }
  return loads;
}

// Multiplies a round's columns, and loads those from \`next\` on in their place.
fn take(loads: ptr<function, Round>, sums: ptr<function, Totals>, places: ptr<function, Places>, next: u32, lane: u32) {
  for (var i = 0u; i < W_LOADS; i++) {
    let own = lane % WIDTH + WIDTH * i;
    let output = own / OUTPUT_STEP % OUTPUTS;
    let unit = own / UNIT_STEP % W_UNITS * W_EIGHTS;
    let w = eights((*loads).w[i]);
    for (var e = 0u; e < W_EIGHTS; e++) {
      if (W_EVEN || own < OUTPUTS * W_UNITS) { tiles[output / 16u * PAIRS + unit / 4u][output % 16u * 5u + unit % 4u + e] = w[e]; }
    }
  }
  for (var i = 0u; i < X_LOADS; i++) {
    let own = lane % WIDTH + WIDTH * i;
    let row = own / X_UNITS % TILE_ROWS;
    let unit = own % X_UNITS;
    if (X_EVEN || own < TILE_ROWS * X_UNITS) {
      tiles[X_TILE + row / 16u * PAIRS + unit / 4u][row % 16u * 5u + unit % 4u] = ordered((*loads).x[i]);
    }
  }
  workgroupBarrier();
  *loads = loads_of(places, next);
  // Written out: how far a place goes is not seen through a function.
  let subgroup = lane / 32u % (WIDTH / 32u);
  let split = subgroup / (ROW_GROUPS * COLUMN_GROUPS);
  let row_tile = subgroup / COLUMN_GROUPS % ROW_GROUPS * ROW_TILES;
  let column_tile = subgroup % COLUMN_GROUPS * COLUMN_TILES;
  for (var d = 0u; d < DEPTH / 32u; d++) {
    let c = split * (DEPTH / 32u) + d;
    var a: array<Left, ROW_TILES>;
    var a_next: array<Left, ROW_TILES>;
    for (var m = 0u; m < ROW_TILES; m++) {
      let own = &tiles[X_TILE + (row_tile + m) * PAIRS + c];
      a[m] = subgroupMatrixLoad<Left, row_major>(own, 0u, 5u);
      a_next[m] = subgroupMatrixLoad<Left, row_major>(own, 2u, 5u);
    }
    for (var n = 0u; n < COLUMN_TILES; n++) {
      let own = &tiles[(column_tile + n) * PAIRS + c];
      let b = subgroupMatrixLoad<Right, col_major>(own, 0u, 5u);
      let b_next = subgroupMatrixLoad<Right, col_major>(own, 2u, 5u);
      for (var m = 0u; m < ROW_TILES; m++) {
        let i = m * COLUMN_TILES + n;
        let sum = subgroupMatrixMultiplyAccumulate(a[m], b, (*sums)[i]);
        (*sums)[i] = subgroupMatrixMultiplyAccumulate(a_next[m], b_next, sum);
      }
    }
  }
  workgroupBarrier();
}
`;

/** finish: all sums go to workgroup memory at once, which must hold them; see \`storeKept\`. */
export const finishAtOnce = /* wgsl */ `
const KEPT_ROWS = TILE_ROWS;
const Y_TILES = SPLITS * ROW_GROUPS * COLUMN_GROUPS * ROW_TILES * COLUMN_TILES;

fn y_tile(split: u32, row: u32, column: u32) -> u32 {
  return (split * (TILE_ROWS / 16u) + row) * (OUTPUTS / 16u) + column;
}

fn finish(sums: ptr<function, Totals>, group: vec3u, lane: u32) {
  let subgroup = lane / 32u;
  let split = subgroup / (ROW_GROUPS * COLUMN_GROUPS);
  for (var m = 0u; m < ROW_TILES; m++) {
    for (var n = 0u; n < COLUMN_TILES; n++) {
      let at = y_tile(split, row_tile_of(subgroup) + m, column_tile_of(subgroup) + n);
      subgroupMatrixStore<row_major>(&tiles[at], 0u, (*sums)[m * COLUMN_TILES + n], 5u);
    }
  }
  workgroupBarrier();
  store_kept(0u, group, lane);
}

fn sum_pair(split: u32, row: u32, n: u32) -> vec2f {
  let unit = bitcast<vec4f>(tiles[y_tile(split, row / 16u, n / 16u)][row % 16u * 5u + n % 16u / 4u]);
  return select(unit.xy, unit.zw, n % 4u == 2u);
}
`;

/** Stores sums from workgroup memory, [SPLITS, KEPT_ROWS, OUTPUTS], see \`sum_pair\`; a split's are added to the others'. And prepare. */
export const storeKept = /* wgsl */ `
const STORES = (KEPT_ROWS * OUTPUTS / 2u + WIDTH - 1u) / WIDTH;    // pairs of outputs that an invocation stores
const SUBGROUPS = WIDTH / 32u;
var<workgroup> squares: array<f32, TILE_ROWS>;

fn prepare(group: vec3u, lane: u32) {
  if (!ADDS_UP) { return; }
  for (var i = 0u; i < (TILE_ROWS + SUBGROUPS - 1u) / SUBGROUPS; i++) {
    let row = lane / 32u + SUBGROUPS * i;
    let sum = subgroupAdd(square_sum(group.y * TILE_ROWS + row, lane % 32u, 32u));
    if (lane % 32u == 0u && row < TILE_ROWS) { squares[row] = sum; }
  }
}

fn store_kept(first: u32, group: vec3u, lane: u32) {
  let rows = batch[0].x;
  for (var k = 0u; k < STORES; k++) {
    let i = lane + WIDTH * k;
    let own = first + 2u * i / OUTPUTS;
    let row = group.y * TILE_ROWS + own;
    let n = group.x * OUTPUTS + 2u * i % OUTPUTS;
    let live = i < KEPT_ROWS * OUTPUTS / 2u && row < rows;
    let factor = factor_from(squares[min(own, TILE_ROWS - 1u)], row, live && group.x == 0u && 2u * i % OUTPUTS == 0u);
    var kept = vec2f();
    if (live && n < dims.y) {
      var total = vec2f();
      for (var s = 0u; s < SPLITS; s++) { total += sum_pair(s, own - first, 2u * i % OUTPUTS); }
      kept = store_and_get(row, n, total, factor);
    }
    keep_squares(select(0xffffffffu, row, live), group.x, lane, OUTPUTS / 2u, kept);
  }
}
`;

/** finish, for 4 × 2 tiles a subgroup: one after the other, where all together would not fit in workgroup memory. */
export const finishInTurns = /* wgsl */ `
const Y_TILES = ROW_GROUPS * COLUMN_GROUPS;
fn prepare(group: vec3u, lane: u32) {}
const_assert ROW_TILES == 4u && COLUMN_TILES == 2u && SPLITS == 1u;

fn emit(tile: Sums, row0: u32, n0: u32, lane: u32) {
  let own = &tiles[lane / 32u];
  workgroupBarrier();
  subgroupMatrixStore<row_major>(own, 0u, tile, 5u);
  workgroupBarrier();
  let rows = batch[0].x;
  for (var half = 0u; half < 2u; half++) {
    let i = lane % 32u + 32u * half;
    let row = row0 + i / 4u;
    let n = n0 + 4u * (i % 4u);
    let quad = bitcast<vec4f>((*own)[i / 4u * 5u + i % 4u]);
    if (row < rows && n < dims.y) { store(row, n, quad.xy); }
    if (row < rows && n + 2u < dims.y) { store(row, n + 2u, quad.zw); }
  }
}

fn finish(sums: ptr<function, Totals>, group: vec3u, lane: u32) {
  let row = group.y * TILE_ROWS + row_tile_of(lane / 32u) * 16u;
  let n = group.x * OUTPUTS + column_tile_of(lane / 32u) * 16u;
  emit((*sums)[0], row, n, lane);
  emit((*sums)[1], row, n + 16u, lane);
  emit((*sums)[2], row + 16u, n, lane);
  emit((*sums)[3], row + 16u, n + 16u, lane);
  emit((*sums)[4], row + 32u, n, lane);
  emit((*sums)[5], row + 32u, n + 16u, lane);
  emit((*sums)[6], row + 48u, n, lane);
  emit((*sums)[7], row + 48u, n + 16u, lane);
}
`;

/** finish, where several workgroups share the columns: their sums as they are, [SLICES, ROWS, PARTIAL_STRIDE]. */
export const finishSlice = /* wgsl */ `
const Y_TILES = 0u;
fn prepare(group: vec3u, lane: u32) {}

fn finish(sums: ptr<function, Totals>, group: vec3u, lane: u32) {
  let row = group.z * ROWS + group.y * TILE_ROWS + row_tile_of(lane / 32u) * 16u;
  let n = group.x * OUTPUTS + column_tile_of(lane / 32u) * 16u;
  for (var i = 0u; i < ROW_TILES * COLUMN_TILES; i++) {
    let at = (row + i / COLUMN_TILES * 16u) * PARTIAL_STRIDE + n + i % COLUMN_TILES * 16u;
    subgroupMatrixStore<row_major>(&partial, at, (*sums)[i], PARTIAL_STRIDE);
  }
}
`;

/** Bindings of a product that one workgroup finishes. */
export const matrixBindings = /* wgsl */ `
@group(0) @binding(2) var<uniform> dims: vec4u;                   // columns, rows of this block of W, stride of Y, first column of Y
@group(0) @binding(3) var<storage, read> x: array<XUnit>;         // [rows, columns]
@group(0) @binding(4) var<storage, read> batch: array<vec4u>;     // [1 + rows]
@group(0) @binding(5) var<storage, read_write> y: array<Y>;       // [rows, dims.z], see store
`;

/** Bindings of a product whose columns several workgroups share: their sums go to \`partial\`. */
export const sliceBindings = /* wgsl */ `
@group(0) @binding(2) var<uniform> dims: vec4u;                   // columns, rows of this block of W, …
@group(0) @binding(3) var<storage, read> x: array<XUnit>;         // [rows, columns]
@group(0) @binding(4) var<storage, read_write> partial: array<f32>; // [SLICES, ROWS, PARTIAL_STRIDE]
`;

/** Adds up the slices of a product and stores it. */
export const addSlicesBindings = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;     // [1 + rows]
@group(0) @binding(1) var<uniform> dims: vec4u;                   // columns, rows of this block of W, stride of Y, first column of Y
@group(0) @binding(2) var<storage, read> partial: array<vec2f>;   // [SLICES, ROWS, PARTIAL_STRIDE / 2]
@group(0) @binding(3) var<storage, read_write> y: array<Y>;       // [rows, dims.z], see store
`;
export const addSlicesBody = /* wgsl */ `
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(global_invocation_id) id: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let n = 2u * id.x;
  let factor = factor_from(add_across(square_sum(id.y, lane % 32u, 32u), 32u), id.y, id.x == 0u);
  var kept = vec2f();
  if (n < dims.y && id.y < batch[0].x) {
    var total = vec2f();
    for (var slice = 0u; slice < SLICES; slice++) {
      total += partial[(slice * ROWS + id.y) * (PARTIAL_STRIDE / 2u) + id.x];
    }
    kept = store_and_get(id.y, n, total, factor);
  }
  keep_squares(id.y, 2u * group.x + lane / 32u, lane, 32u, kept);
}
`;
