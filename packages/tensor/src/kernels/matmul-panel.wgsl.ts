/**
 * Products of weights in panels with subgroup matrices (16 × 8 × 8, f16 in, f32 out; subgroups of 32): Yᵀ = W · Xᵀ. A workgroup
 * computes 8 · ROW_TILES rows × 16 · PANELS · GROUPS outputs, a subgroup PANELS panels of them. The columns of W are shared between
 * SPLITS subgroups, which add up their sums at the end.
 *
 * Weights come straight from memory: a tile of a panel is 256 bytes in a row, a workgroup reads each but once, and all tiles of a
 * round, DEPTH of each panel, are on their way at once. Operands go through workgroup memory: with two SIDES for them a round has one
 * barrier, with one there is room for more workgroups.
 *
 * Where bounds are checked, all is such that Tint sees what is within them: each matrix is an array by itself, of which nothing is
 * left to be checked but its place among the others, \`min\` and \`%\` say how far places go, and loops count by one.
 */
export const panelBody = /* wgsl */ `
alias Left = subgroup_matrix_left<f16, 8, 16>;
alias Right = subgroup_matrix_right<f16, 8, 8>;
alias Sums = subgroup_matrix_result<f32, 8, 16>;
alias Totals = array<Sums, ROW_TILES * PANELS>;

const WIDTH = 32u * GROUPS * SPLITS;
const TILE_ROWS = 8u * ROW_TILES;
const OUTPUTS = 16u * PANELS * GROUPS;
const UNITS = DEPTH * SPLITS;                                      // eights of columns of a round
const X_LOADS = (TILE_ROWS * UNITS + WIDTH - 1u) / WIDTH;          // an invocation's, a round
alias Tile = array<vec4u, 9>;                                      // eight rows of an eight of columns; odd: no bank conflicts
var<workgroup> tiles: array<array<Tile, ROW_TILES * DEPTH>, SIDES * SPLITS>;

alias Eights = array<vec4u, X_LOADS>;
alias Places = array<u32, X_LOADS>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let units = dims.x / 8u;
  let rounds = units / UNITS;
  let subgroup = lane / 32u;
  let split = subgroup / GROUPS;
  let first = group.x * (PANELS * GROUPS) + subgroup % GROUPS * PANELS;
  var sums: Totals;
  var places = places_of(group, lane);
  var eights = loads_of(&places, 0u);
  prepare(group, lane);
  for (var round = 0u; round < rounds; round++) {
    let k = round * UNITS;
    var w: array<Left, DEPTH * PANELS>;
    for (var p = 0u; p < PANELS; p++) {
      let at = min(first + p, dims.y / 16u - 1u) * units + k + split * DEPTH;
      for (var d = 0u; d < DEPTH; d++) {
        w[d * PANELS + p] = subgroupMatrixLoad<Left, row_major>(&words[at + d], 0u, 1u);
      }
    }
    let side = round % SIDES;
    put(&eights, side, lane);
    workgroupBarrier();
    eights = loads_of(&places, min(k + UNITS, units - UNITS));
    let own = &tiles[side * SPLITS + split];
    for (var d = 0u; d < DEPTH; d++) {
      for (var m = 0u; m < ROW_TILES; m++) {
        let x = subgroupMatrixLoad<Right, col_major>(&(*own)[m * DEPTH + d], 0u, 1u);
        for (var p = 0u; p < PANELS; p++) {
          let i = m * PANELS + p;
          sums[i] = subgroupMatrixMultiplyAccumulate(w[d * PANELS + p], x, sums[i]);
        }
      }
    }
    if (SIDES == 1u) { workgroupBarrier(); }
  }
  finish(&sums, group, lane);
}

// Where an invocation's operands are in the first column; rows past the last read it again.
fn places_of(group: vec3u, lane: u32) -> Places {
  var places: Places;
  for (var i = 0u; i < X_LOADS; i++) {
    let own = min(lane + WIDTH * i, TILE_ROWS * UNITS - 1u);
    places[i] = min((group.y * TILE_ROWS + own / UNITS) * (dims.x / 8u), last_x_row()) + own % UNITS;
  }
  return places;
}

fn loads_of(places: ptr<function, Places>, k: u32) -> Eights {
  var loads: Eights;
  for (var i = 0u; i < X_LOADS; i++) { loads[i] = load_x((*places)[i] + k); }
  return loads;
}

fn put(loads: ptr<function, Eights>, side: u32, lane: u32) {
  for (var i = 0u; i < X_LOADS; i++) {
    let own = min(lane + WIDTH * i, TILE_ROWS * UNITS - 1u);
    let row = own / UNITS;
    let unit = own % UNITS;
    tiles[side * SPLITS + unit / DEPTH][row / 8u * DEPTH + unit % DEPTH][row % 8u] = (*loads)[i];
  }
}
`;

/** Weights of \`panelBody\`. */
export const panelWords = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<array<vec4u, 16>>; // [rows / 16, columns / 8]
@group(0) @binding(1) var<storage, read> scales: array<u32>;
`;

/**
 * finish: sums go to workgroup memory eight rows at a time, see \`storeKept\`. Those that are left move up to the first places:
 * indexed by a loop that holds a barrier, all would live in memory.
 */
export const finishPanels = /* wgsl */ `
const KEPT_ROWS = 8u;
const ALL_PANELS = PANELS * GROUPS;
var<workgroup> kept_sums: array<array<vec4u, 32>, SPLITS * ALL_PANELS>; // a matrix each

fn finish(sums: ptr<function, Totals>, group: vec3u, lane: u32) {
  let first = lane / 32u * PANELS;
  for (var turn = 0u; turn < ROW_TILES; turn++) {
    for (var p = 0u; p < PANELS; p++) { subgroupMatrixStore<col_major>(&kept_sums[first + p], 0u, (*sums)[p], 4u); }
    for (var i = 0u; i < (ROW_TILES - 1u) * PANELS; i++) { (*sums)[i] = (*sums)[i + PANELS]; }
    workgroupBarrier();
    store_kept(turn * KEPT_ROWS, group, lane);
    workgroupBarrier();
  }
}

fn sum_pair(split: u32, row: u32, n: u32) -> vec2f {
  let unit = bitcast<vec4f>(kept_sums[split * ALL_PANELS + n / 16u][row * 4u + n % 16u / 4u]);
  return select(unit.xy, unit.zw, n % 4u == 2u);
}
`;
