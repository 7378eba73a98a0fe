/**
 * Rows by teams of four invocations that can shuffle. A workgroup computes 4 · BLOCKS · ROW_GROUPS rows × 4 · GROUPS outputs; a team
 * has four of the outputs, for BLOCKS blocks of four rows, and each of its invocations a fourth of the columns. The columns are
 * shared between SPLITS teams as well, which add up at the end.
 *
 * Weights come straight from memory, as invocations side by side take eight columns each; those of the next round are on their way
 * while one is multiplied. x goes through workgroup memory, since all teams read the same: with two SIDES for it a round has one
 * barrier.
 *
 * Sums are matrices with names: compilers do not unroll long loops, nor put every function in its place, and an array that such
 * a loop indexes, or a pointer that such a function takes, lives in memory.
 */
export const teamBody = /* wgsl */ `
const TEAM = 4u;
const TEAMS = GROUPS * ROW_GROUPS;                                // of a split
const WIDTH = TEAM * TEAMS * SPLITS;
const ROWS = 4u * BLOCKS;                                         // of a team
const TILE_ROWS = ROWS * ROW_GROUPS;
const UNITS = TEAM * SPLITS;                                      // eights of columns of a round
const SIDE = TILE_ROWS * UNITS;
const X_LOADS = (SIDE + WIDTH - 1u) / WIDTH;                      // an invocation's, a round
const X_EVEN = SIDE % WIDTH == 0u;
alias Rows = array<array<vec4u, UNITS>, ROWS>;
var<workgroup> tile: array<array<Rows, ROW_GROUPS>, X_PARTS * SIDES>;

alias Eights = array<Eight, X_LOADS>;
struct Loads { a: Octet, b: Octet, c: Octet, d: Octet }

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  if (group.y * TILE_ROWS >= batch[0].x) { return; }
  let octets = dims.x / 8u;
  let first = (group.x * GROUPS + lane / TEAM % GROUPS) * 4u;
  let unit = lane / (TEAM * TEAMS) * TEAM + lane % TEAM;
  var a = mat4x4f();                                              // by row
  var b = mat4x4f();
  var c = mat4x4f();
  var d = mat4x4f();
  var eights = eights_of(group.y * TILE_ROWS, 0u, lane);
  var loads = loads_of(first, unit);
  var side = 0u;
  for (var k = 0u; k < octets; k += UNITS) {
    put(&eights, side, octets - k, lane);
    workgroupBarrier();
    eights = eights_of(group.y * TILE_ROWS, k + UNITS, lane);
    let next = loads_of(first, k + UNITS + unit);
    let w = columns_of(loads);
    let place = vec3u(side, lane / (TEAM * GROUPS) % ROW_GROUPS, unit);
    a = add_block(a, w, place, 0u);
    if (BLOCKS > 1u) { b = add_block(b, w, place, 4u); }
    if (BLOCKS > 2u) { c = add_block(c, w, place, 8u); }
    if (BLOCKS > 3u) { d = add_block(d, w, place, 12u); }
    loads = next;
    side = SIDES - 1u - side;
    if (SIDES == 1u) { workgroupBarrier(); }
  }
  workgroupBarrier();
  finish(over_team(a, lane), 0u, group, lane);
  if (BLOCKS > 1u) { finish(over_team(b, lane), 1u, group, lane); }
  if (BLOCKS > 2u) { finish(over_team(c, lane), 2u, group, lane); }
  if (BLOCKS > 3u) { finish(over_team(d, lane), 3u, group, lane); }
  if (SPLITS > 1u) { add_splits(group, lane); }
}

// Columns past the last are read as the last; \`put\` makes zeros of them. Rows past the last read it again.
fn eights_of(row0: u32, k: u32, lane: u32) -> Eights {
  let octets = dims.x / 8u;
  var loads: Eights;
  for (var i = 0u; i < X_LOADS; i++) {
    let own = lane + WIDTH * i;
    loads[i] = load_x(min((row0 + own / UNITS) * octets, last_x_row()) + min(k + own % UNITS, octets - 1u));
  }
  return loads;
}

fn put(loads: ptr<function, Eights>, side: u32, left: u32, lane: u32) {
  for (var i = 0u; i < X_LOADS; i++) {
    let own = lane + WIDTH * i;
    if (X_EVEN || own < SIDE) { put_x(side, own, (*loads)[i], own % UNITS < left); }
  }
}

// Place i of a side of the tile, or beyond it.
fn set_tile(side: u32, i: u32, v: vec4u) {
  let row = i / UNITS % TILE_ROWS;
  tile[side + i / SIDE][row / ROWS][row % ROWS][i % UNITS] = v;
}

fn loads_of(first: u32, i: u32) -> Loads {
  let last = dims.y - 1u;
  let at = min(i, dims.x / 8u - 1u);
  return Loads(
    load_octet(min(first, last), at),
    load_octet(min(first + 1u, last), at),
    load_octet(min(first + 2u, last), at),
    load_octet(min(first + 3u, last), at),
  );
}

fn columns_of(loads: Loads) -> Columns {
  let a = decode(loads.a);
  let b = decode(loads.b);
  let c = decode(loads.c);
  let d = decode(loads.d);
  return Columns(transpose(mat4x4f(a[0], b[0], c[0], d[0])), transpose(mat4x4f(a[1], b[1], c[1], d[1])));
}

fn add_block(sums: mat4x4f, w: Columns, place: vec3u, row: u32) -> mat4x4f {
  return mat4x4f(
    add_eight(sums[0], w, take(place, row)), add_eight(sums[1], w, take(place, row + 1u)),
    add_eight(sums[2], w, take(place, row + 2u)), add_eight(sums[3], w, take(place, row + 3u)),
  );
}

// Of what a team has, each of its invocations adds up a row: one of a half of them.
fn over_team(sums: mat4x4f, lane: u32) -> vec4f {
  let two = (lane & 2u) != 0u;
  let even = select(sums[0], sums[2], two) + across(select(sums[2], sums[0], two), 2u);
  let odd = select(sums[1], sums[3], two) + across(select(sums[3], sums[1], two), 2u);
  let one = (lane & 1u) != 0u;
  return select(even, odd, one) + across(select(odd, even, one), 1u);
}

fn across(v: vec4f, mask: u32) -> vec4f { return subgroupShuffleXor(v, mask); }

fn finish(sums: vec4f, block: u32, group: vec3u, lane: u32) {
  let at = block * WIDTH + lane;
  if (SPLITS == 1u) { store_sums(group, at, sums); } else { set_tile(0u, at, bitcast<vec4u>(sums)); }
}

fn add_splits(group: vec3u, lane: u32) {
  workgroupBarrier();
  for (var i = lane; i < BLOCKS * TEAMS * TEAM; i += WIDTH) {
    let first = i / (TEAMS * TEAM) * WIDTH + i % (TEAMS * TEAM);
    var sums = vec4f();
    for (var s = 0u; s < SPLITS; s++) {
      let at = first + s * TEAMS * TEAM;
      let row = at / UNITS % TILE_ROWS;
      sums += bitcast<vec4f>(tile[at / SIDE][row / ROWS][row % ROWS][at % UNITS]);
    }
    store_sums(group, first, sums);
  }
}

// Sums i of a workgroup: of a block, and an invocation of the first split.
fn store_sums(group: vec3u, i: u32, sums: vec4f) {
  let lane = i % WIDTH;
  let m = group.y * TILE_ROWS + lane / (TEAM * GROUPS) * ROWS + i / WIDTH * 4u + lane % TEAM;
  let n = (group.x * GROUPS + lane / TEAM % GROUPS) * 4u;
  if (m < batch[0].x && n < dims.y) { store(m, n, sums.xy); }
  if (m < batch[0].x && n + 2u < dims.y) { store(m, n + 2u, sums.zw); }
}
`;

/** Adds products of eight columns to sums of four outputs, in f32. */
export const eightColumns = /* wgsl */ `
struct Columns { low: mat4x4f, high: mat4x4f }                    // of four outputs, by column

fn add_eight(sums: vec4f, w: Columns, v: array<vec4f, 2>) -> vec4f {
  var sum = fma(w.low[0], vec4f(v[0].x), sums);
  sum = fma(w.low[1], vec4f(v[0].y), sum);
  sum = fma(w.low[2], vec4f(v[0].z), sum);
  sum = fma(w.low[3], vec4f(v[0].w), sum);
  sum = fma(w.high[0], vec4f(v[1].x), sum);
  sum = fma(w.high[1], vec4f(v[1].y), sum);
  sum = fma(w.high[2], vec4f(v[1].z), sum);
  return fma(w.high[3], vec4f(v[1].w), sum);
}
`;

/** Bindings, and how eight values of x are read, and go through workgroup memory. */
export const teamF32 = /* wgsl */ `
@group(0) @binding(2) var<storage, read> batch: array<vec4u>;     // [1 + rows]
@group(0) @binding(3) var<uniform> dims: vec4u;                   // columns, rows of this block of W, stride of Y, first column of Y
@group(0) @binding(4) var<storage, read> x: array<vec4f>;         // [rows, columns / 4]
@group(0) @binding(5) var<storage, read_write> y: array<Y>;       // [rows, dims.z], see store
const X_PARTS = 2u;
alias Eight = array<vec4f, 2>;

fn last_x_row() -> u32 { return (arrayLength(&x) - dims.x / 4u) / 2u; }
fn load_x(i: u32) -> Eight { return Eight(x[2u * i], x[2u * i + 1u]); }
fn put_x(side: u32, i: u32, v: Eight, real: bool) {
  set_tile(side, i, select(vec4u(), bitcast<vec4u>(v[0]), real));
  set_tile(SIDES + side, i, select(vec4u(), bitcast<vec4u>(v[1]), real));
}
fn take(place: vec3u, row: u32) -> array<vec4f, 2> {
  return array<vec4f, 2>(
    bitcast<vec4f>(tile[place.x][place.y][row][place.z]),
    bitcast<vec4f>(tile[SIDES + place.x][place.y][row][place.z]),
  );
}
`;

export const teamF16 = /* wgsl */ `
@group(0) @binding(2) var<storage, read> batch: array<vec4u>;     // [1 + rows]
@group(0) @binding(3) var<uniform> dims: vec4u;                   // columns, rows of this block of W, stride of Y, first column of Y
@group(0) @binding(4) var<storage, read> x: array<vec4u>;         // [rows, columns / 8]
@group(0) @binding(5) var<storage, read_write> y: array<Y>;       // [rows, dims.z], see store
const X_PARTS = 1u;
alias Eight = vec4u;

fn last_x_row() -> u32 { return arrayLength(&x) - dims.x / 8u; }
fn load_x(i: u32) -> Eight { return x[i]; }
fn put_x(side: u32, i: u32, v: Eight, real: bool) { set_tile(side, i, select(vec4u(), v, real)); }
fn take(place: vec3u, row: u32) -> array<vec4f, 2> {
  let v = tile[place.x][place.y][row][place.z];
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
