/**
 * Products of weights in panels with subgroup matrices (16 × 8 × 8, f16 in, f32 out; subgroups of 32): Yᵀ = W · Xᵀ. A workgroup
 * computes 8 · ROW_TILES rows × 16 · PANELS · GROUPS outputs, a subgroup PANELS panels of them. The columns of W are shared between
 * SPLITS subgroups, which add up their sums at the end.
 *
 * Weights come straight from memory: a tile of a panel is 256 bytes in a row, a workgroup reads each but once, and all tiles of a
 * round, DEPTH of each panel, are on their way at once. Operands go through workgroup memory: with two SIDES for them a round has one
 * barrier, with one there is room for more workgroups.
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
const STRIDE = UNITS + 1u;                                         // of a row of operands, in 16 bytes; odd: no bank conflicts
const SIDE = TILE_ROWS * STRIDE;                                   // operands of a round
const X_LOADS = (TILE_ROWS * UNITS + WIDTH - 1u) / WIDTH;          // an invocation's, a round
const X_EVEN = TILE_ROWS * UNITS % WIDTH == 0u;
var<workgroup> tiles: array<vec4u, max(SIDES * SIDE, Y_SIZE / 4u)>;

alias Eights = array<vec4u, X_LOADS>;
alias Places = array<u32, X_LOADS>;

fn split_of(subgroup: u32) -> u32 { return subgroup / GROUPS; }
fn panel_of(subgroup: u32) -> u32 { return subgroup % GROUPS * PANELS; }

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let units = dims.x / 8u;
  let subgroup = lane / 32u;
  let first = group.x * (PANELS * GROUPS) + panel_of(subgroup);
  var sums: Totals;
  var places = places_of(group, lane);
  var eights = loads_of(&places, 0u);
  prepare(group, lane);
  var side = 0u;
  for (var k = 0u; k < units; k += UNITS) {
    var w: array<Left, DEPTH * PANELS>;
    for (var p = 0u; p < PANELS; p++) {
      let panel = min(first + p, dims.y / 16u - 1u);
      for (var d = 0u; d < DEPTH; d++) {
        let at = (panel * units + k + split_of(subgroup) * DEPTH + d) * 16u;
        w[d * PANELS + p] = subgroupMatrixLoad<Left, row_major>(&words, at, 1u);
      }
    }
    put(&eights, side, lane);
    workgroupBarrier();
    eights = loads_of(&places, min(k + UNITS, units - UNITS));
    for (var d = 0u; d < DEPTH; d++) {
      for (var m = 0u; m < ROW_TILES; m++) {
        let at = side + m * 8u * STRIDE + split_of(subgroup) * DEPTH + d;
        let x = subgroupMatrixLoad<Right, col_major>(&tiles, at, STRIDE);
        for (var p = 0u; p < PANELS; p++) {
          let i = m * PANELS + p;
          sums[i] = subgroupMatrixMultiplyAccumulate(w[d * PANELS + p], x, sums[i]);
        }
      }
    }
    side = (SIDES - 1u) * SIDE - side;
    if (SIDES == 1u) { workgroupBarrier(); }
  }
  workgroupBarrier();
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
    let own = lane + WIDTH * i;
    if (X_EVEN || own < TILE_ROWS * UNITS) { tiles[side + own / UNITS * STRIDE + own % UNITS] = (*loads)[i]; }
  }
}
`;

/** Weights of \`panelBody\`. */
export const panelWords = /* wgsl */ `
@group(0) @binding(0) var<storage, read> words: array<vec4u>;     // [rows / 16, columns / 8, 16]
@group(0) @binding(1) var<storage, read> scales: array<u32>;
`;

/**
 * finish: sums go to workgroup memory KEPT_TILES · PANELS at a time, see \`storeKept\`. Those that are left move up to the first places:
 * indexed by a loop that holds a barrier, all would live in memory.
 */
export const finishPanels = /* wgsl */ `
const KEPT_TILES = min(ROW_TILES, 2u);
const KEPT_ROWS = 8u * KEPT_TILES;
const KEPT = KEPT_TILES * PANELS;

fn finish(sums: ptr<function, Totals>, group: vec3u, lane: u32) {
  let subgroup = lane / 32u;
  for (var first = 0u; first < TILE_ROWS; first += KEPT_ROWS) {
    for (var i = 0u; i < KEPT; i++) {
      let at = (split_of(subgroup) * KEPT_ROWS + i / PANELS * 8u) * OUTPUTS + (panel_of(subgroup) + i % PANELS) * 16u;
      subgroupMatrixStore<col_major>(&tiles, at / 4u, (*sums)[i], OUTPUTS / 4u);
    }
    for (var i = KEPT; i < ROW_TILES * PANELS; i++) { (*sums)[i - KEPT] = (*sums)[i]; }
    workgroupBarrier();
    store_kept(first, group, lane);
    workgroupBarrier();
  }
}
`;
