/** Queries, keys and values of the study, in tiles, and its results. */
export const tilesHead = /* wgsl */ `
@group(0) @binding(0) var<storage, read> q: array<vec4u>;                // [HEADS, VECTORS, UNITS]: eights of f16
@group(0) @binding(1) var<storage, read> kv: array<vec4u>;               // keys [HEADS, KEYS / 16, UNITS, 16]: eights of dims; values
                                                                         // [HEADS, KEYS / 8, UNITS / 2, 16]: eights of keys of one dim
const UNITS = HEAD_DIM / 8u;
const LOWEST = -1e30;
const VALUES = HEADS * KEYS * UNITS;
`;

/**
 * Attention of VECTORS query vectors of a head to one of PARTS parts of its keys. SHARES subgroups have a head's columns together; GROUPS
 * such groups have 16 · KEY_TILES keys of a round each, a softmax of their own, and are joined at the end. Keys and values are left
 * matrices, straight from memory; queries stay in registers as right ones. The reference of a softmax moves when a score exceeds it by 8.
 */
export const attendTiles = /* wgsl */ `
alias Left = subgroup_matrix_left<f16, 8, 16>;
alias Right = subgroup_matrix_right<f16, 8, 8>;
alias Sums = subgroup_matrix_result<f32, 8, 16>;
@group(0) @binding(2) var<storage, read_write> partial: array<vec4f>;    // [PARTS, HEADS, VECTORS, HEAD_DIM / 4]
@group(0) @binding(3) var<storage, read_write> log_sums: array<f32>;     // [PARTS, HEADS, VECTORS]

const WIDTH = 32u * GROUPS * SHARES;
const TILES = VECTORS / 8u;
const KEY_UNITS = UNITS / SHARES;                                  // eights of dims of a subgroup,
const VALUE_TILES = UNITS / 2u / SHARES;                           // and sixteens
const SCORE_STRIDE = 4u * KEY_TILES + 1u;                          // of a vector's scores, in fours
const WEIGHT_STRIDE = 2u * KEY_TILES + 1u;                         // and weights, in eights
const LANES = 32u * SHARES / VECTORS;                              // invocations that share a vector's softmax
const OWN_FOURS = 4u * KEY_TILES / LANES;
const ROUND = 16u * KEY_TILES;
const PART = KEYS / PARTS;
alias Keys = array<Left, KEY_TILES * KEY_UNITS>;
alias Values = array<Left, 2u * KEY_TILES * VALUE_TILES>;
alias Queries = array<Right, KEY_UNITS * TILES>;
alias Totals = array<Sums, VALUE_TILES * TILES>;

var<workgroup> room: array<vec4u, GROUPS * SHARES * VECTORS * SCORE_STRIDE>;
var<workgroup> weights: array<vec4u, GROUPS * VECTORS * WEIGHT_STRIDE>;
var<workgroup> shrinks: array<f32, GROUPS * VECTORS>;
var<workgroup> references: array<f32, GROUPS * VECTORS>;
var<workgroup> totals: array<f32, GROUPS * VECTORS>;
var<workgroup> raised: array<u32, GROUPS * SHARES>;

struct Softmax { reference: f32, total: f32 }

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let share = lane / 32u % SHARES;
  let first = group.y * PART + lane / (32u * SHARES) * ROUND;
  var queries: Queries;
  for (var d = 0u; d < KEY_UNITS; d++) {
    for (var t = 0u; t < TILES; t++) {
      let at = (group.x * VECTORS + t * 8u) * UNITS + share * KEY_UNITS + d;
      queries[d * TILES + t] = subgroupMatrixLoad<Right, col_major>(&q, at, UNITS);
    }
  }
  var keys: Keys;
  load_keys(&keys, group.x, first, share);
  var sums: Totals;
  var own = Softmax(LOWEST, 0.0);
  for (var k = 0u; k < PART; k += GROUPS * ROUND) {
    var values: Values;
    for (var h = 0u; h < 2u * KEY_TILES; h++) {
      for (var d = 0u; d < VALUE_TILES; d++) {
        let tile = ((group.x * KEYS + first + k) / 8u + h) * (UNITS / 2u) + share * VALUE_TILES + d;
        values[h * VALUE_TILES + d] = subgroupMatrixLoad<Left, row_major>(&kv, VALUES + tile * 16u, 1u);
      }
    }
    score(&keys, &queries, lane);
    load_keys(&keys, group.x, first + min(k + GROUPS * ROUND, PART - GROUPS * ROUND), share);
    workgroupBarrier();
    if (weigh(&own, lane) > 0u) { scale(&sums, lane); }
    for (var h = 0u; h < 2u * KEY_TILES; h++) {
      for (var t = 0u; t < TILES; t++) {
        let at = (lane / (32u * SHARES) * VECTORS + t * 8u) * WEIGHT_STRIDE + h;
        let right = subgroupMatrixLoad<Right, col_major>(&weights, at, WEIGHT_STRIDE);
        for (var d = 0u; d < VALUE_TILES; d++) {
          sums[d * TILES + t] = subgroupMatrixMultiplyAccumulate(values[h * VALUE_TILES + d], right, sums[d * TILES + t]);
        }
      }
    }
  }
  join(&sums, own, group, lane);
}

fn load_keys(keys: ptr<function, Keys>, head: u32, first: u32, share: u32) {
  for (var j = 0u; j < KEY_TILES; j++) {
    for (var d = 0u; d < KEY_UNITS; d++) {
      let tile = ((head * KEYS + first) / 16u + j) * UNITS + share * KEY_UNITS + d;
      (*keys)[j * KEY_UNITS + d] = subgroupMatrixLoad<Left, row_major>(&kv, tile * 16u, 1u);
    }
  }
}

// Scores of a subgroup's columns. They move up to be stored: more than two stores that a loop indexes are not unrolled.
fn score(keys: ptr<function, Keys>, queries: ptr<function, Queries>, lane: u32) {
  var dots: array<Sums, KEY_TILES * TILES>;
  for (var i = 0u; i < KEY_TILES * TILES; i++) { dots[i] = Sums(); }
  for (var d = 0u; d < KEY_UNITS; d++) {
    for (var t = 0u; t < TILES; t++) {
      for (var j = 0u; j < KEY_TILES; j++) {
        let i = j * TILES + t;
        dots[i] = subgroupMatrixMultiplyAccumulate((*keys)[j * KEY_UNITS + d], (*queries)[d * TILES + t], dots[i]);
      }
    }
  }
  for (var i = 0u; i < KEY_TILES * TILES; i++) {
    let at = (lane / 32u * VECTORS + i % TILES * 8u) * SCORE_STRIDE + 4u * (i / TILES);
    subgroupMatrixStore<col_major>(&room, at, dots[0], SCORE_STRIDE);
    for (var j = 1u; j < KEY_TILES * TILES; j++) { dots[j - 1u] = dots[j]; }
  }
}

// Scores become weights. Returns whether any reference has moved.
fn weigh(own: ptr<function, Softmax>, lane: u32) -> u32 {
  let place = lane / (32u * SHARES) * VECTORS + lane % (32u * SHARES) / LANES;
  var scores: array<vec4f, OWN_FOURS>;
  var best = LOWEST;
  for (var i = 0u; i < OWN_FOURS; i++) {
    for (var s = 0u; s < SHARES; s++) {
      let vector = (place / VECTORS * SHARES + s) * VECTORS + place % VECTORS;
      scores[i] += bitcast<vec4f>(room[vector * SCORE_STRIDE + lane % LANES * OWN_FOURS + i]);
    }
    best = max(best, max(max(scores[i].x, scores[i].y), max(scores[i].z, scores[i].w)));
  }
  for (var mask = 1u; mask < LANES; mask *= 2u) { best = max(best, subgroupShuffleXor(best, mask)); }
  let before = (*own).reference;
  let moved = best > before + 8.0;
  let reference = select(before, best, moved);
  var sum = 0.0;
  var pairs: array<vec2u, OWN_FOURS>;
  for (var i = 0u; i < OWN_FOURS; i++) {
    let weight = exp(scores[i] - reference);
    pairs[i] = vec2u(pack2x16float(weight.xy), pack2x16float(weight.zw));
    sum += dot(unpack2x16float(pairs[i].x) + unpack2x16float(pairs[i].y), vec2f(1.0));
  }
  put_weights(pairs, place * WEIGHT_STRIDE + lane % LANES * OWN_FOURS / 2u, lane);
  for (var mask = 1u; mask < LANES; mask *= 2u) { sum += subgroupShuffleXor(sum, mask); }
  let shrink = select(1.0, exp(before - reference), moved);
  (*own).reference = reference;
  (*own).total = (*own).total * shrink + sum;
  if (lane % LANES == 0u) { shrinks[place] = shrink; }
  let any = subgroupAny(moved && before > LOWEST);
  if (lane % 32u == 0u) { raised[lane / 32u] = select(0u, 1u, any); }
  let flags = workgroupUniformLoad(&raised);
  var all = 0u;
  for (var i = 0u; i < GROUPS * SHARES; i++) { all |= flags[i]; }
  return all;
}

// Eight weights are an element, of one invocation or of two.
fn put_weights(pairs: array<vec2u, OWN_FOURS>, first: u32, lane: u32) {
  if (OWN_FOURS == 1u) {
    let own = bitcast<vec2f>(pairs[0]);
    let other = bitcast<vec2u>(vec2f(subgroupShuffleXor(own.x, 1u), subgroupShuffleXor(own.y, 1u)));
    if (lane % 2u == 0u) { weights[first] = vec4u(pairs[0], other); }
  }
  for (var i = 0u; i < OWN_FOURS / 2u; i++) { weights[first + i] = vec4u(pairs[2u * i], pairs[2u * i + 1u]); }
}

fn scale(sums: ptr<function, Totals>, lane: u32) {
  let start = lane / 32u * VECTORS * SCORE_STRIDE;
  let at = start + lane % 32u / 4u * 5u + lane % 4u;
  for (var i = 0u; i < VALUE_TILES * TILES; i++) {
    subgroupMatrixStore<col_major>(&room, start, (*sums)[0], 5u);
    for (var j = 1u; j < VALUE_TILES * TILES; j++) { (*sums)[j - 1u] = (*sums)[j]; }
    workgroupBarrier();
    let shrink = shrinks[lane / (32u * SHARES) * VECTORS + i % TILES * 8u + lane % 32u / 4u];
    room[at] = bitcast<vec4u>(bitcast<vec4f>(room[at]) * shrink);
    workgroupBarrier();
    (*sums)[VALUE_TILES * TILES - 1u] = subgroupMatrixLoad<Sums, col_major>(&room, start, 5u);
    workgroupBarrier();
  }
}

// Adds up what the groups have, a tile at a time.
fn join(sums: ptr<function, Totals>, own: Softmax, group: vec3u, lane: u32) {
  let place = lane / (32u * SHARES) * VECTORS + lane % (32u * SHARES) / LANES;
  if (lane % LANES == 0u) {
    references[place] = own.reference;
    totals[place] = own.total;
  }
  workgroupBarrier();
  for (var i = 0u; i < VALUE_TILES * TILES; i++) {
    subgroupMatrixStore<col_major>(&room, lane / 32u * VECTORS * SCORE_STRIDE, (*sums)[0], 5u);
    for (var j = 1u; j < VALUE_TILES * TILES; j++) { (*sums)[j - 1u] = (*sums)[j]; }
    workgroupBarrier();
    let vector = i % TILES * 8u + lane % 32u / 4u;
    let four = (lane / 32u % SHARES * VALUE_TILES + i / TILES) * 4u + lane % 4u;
    if (lane < 32u * SHARES) { store(group, vector, four, lane); }
    workgroupBarrier();
  }
}

fn store(group: vec3u, vector: u32, four: u32, lane: u32) {
  var best = LOWEST;
  for (var g = 0u; g < GROUPS; g++) { best = max(best, references[g * VECTORS + vector]); }
  var total = 0.0;
  var sum = vec4f();
  for (var g = 0u; g < GROUPS; g++) {
    let weight = exp(references[g * VECTORS + vector] - best);
    total += weight * totals[g * VECTORS + vector];
    let at = (g * SHARES + lane / 32u) * VECTORS * SCORE_STRIDE + lane % 32u / 4u * 5u + lane % 4u;
    sum += weight * bitcast<vec4f>(room[at]);
  }
  let row = (group.y * HEADS + group.x) * VECTORS + vector;
  partial[row * (HEAD_DIM / 4u) + four] = sum / total;
  if (four == 0u) { log_sums[row] = best + log(total); }
}
`;

/** The same by one workgroup a vector, in f32. */
export const attendPlainly = /* wgsl */ `
@group(0) @binding(2) var<storage, read_write> y: array<f32>;            // [HEADS, VECTORS, HEAD_DIM]
var<workgroup> scores: array<f32, KEYS>;

fn half_of(unit: vec4u, i: u32) -> f32 { return unpack2x16float(unit[i / 2u])[i % 2u]; }
fn key_at(head: u32, key: u32, d: u32) -> f32 {
  return half_of(kv[((head * KEYS + key) / 16u * UNITS + d / 8u) * 16u + key % 16u], d % 8u);
}
fn value_at(head: u32, key: u32, d: u32) -> f32 {
  return half_of(kv[VALUES + ((head * KEYS + key) / 8u * (UNITS / 2u) + d / 16u) * 16u + d % 16u], key % 8u);
}

@compute @workgroup_size(HEAD_DIM)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * VECTORS + group.x;
  for (var k = lane; k < KEYS; k += HEAD_DIM) {
    var score = 0.0;
    for (var d = 0u; d < HEAD_DIM; d++) { score += half_of(q[row * UNITS + d / 8u], d % 8u) * key_at(group.y, k, d); }
    scores[k] = score;
  }
  workgroupBarrier();
  var best = LOWEST;
  for (var k = 0u; k < KEYS; k++) { best = max(best, scores[k]); }
  var total = 0.0;
  var sum = 0.0;
  for (var k = 0u; k < KEYS; k++) {
    let weight = exp(scores[k] - best);
    total += weight;
    sum += weight * value_at(group.y, k, lane);
  }
  y[row * HEAD_DIM + lane] = sum / total;
}
`;
