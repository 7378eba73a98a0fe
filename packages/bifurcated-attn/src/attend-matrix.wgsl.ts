/**
 * For GPUs with subgroup matrices (16 × 16 × 16, f16 in, f32 out; subgroups of 32) and KV in f16: a workgroup of
 * SUBGROUPS attends for a tile of VECTORS query vectors, 16 of a subgroup, which it keeps in registers. Keys and values go
 * through workgroup memory, 16 a round, once for all of them; the next round's are on their way the whole round long.
 * Drivers give a processor's workgroups little such memory together (48 KiB on an H100), so that what a workgroup takes
 * of it decides how many there are, and how many bytes are on their way (docs/performance-log.md).
 *
 * Softmax goes on from round to round with a reference that only moves when a score exceeds it by \`slack\`: sums are
 * held in subgroup matrices, which cannot be multiplied in place, and so are seldom scaled.
 */
export const attendMatrix = /* wgsl */ `
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;

const SUBGROUPS = VECTORS / 16u;
const WIDTH = 32u * SUBGROUPS;
const KEYS = 16u;                                                  // of a round
const DIM_TILES = HEAD_DIM / 16u;
const UNITS = HEAD_DIM / 8u;                                       // 16 bytes each: two quads
const UNIT_QUADS = 2u;
const STRIDE = UNITS + 1u;                                         // of a tile's row; odd: no bank conflicts
const LOADS = (KEYS * UNITS + WIDTH - 1u) / WIDTH;                 // an invocation's, a round
const SCORE_STRIDE = 20u;
const WEIGHT_STRIDE = 3u;                                          // in 16 bytes
const VALUES = KV_HEADS * PAGE * UNITS;                            // from a key to its value
const PAGES = max(1u, KEYS / PAGE);                                // of a round
alias Pages = array<u32, PAGES>;
const slack = 8.0;                                                 // weights stay below e^8 in f16
alias Totals = array<Sums, DIM_TILES>;

var<workgroup> tile: array<vec4u, KEYS * STRIDE>;                  // queries at first, then keys and values in turns
var<workgroup> scores: array<f32, VECTORS * SCORE_STRIDE>;         // and sums, when they are scaled or done
var<workgroup> weights: array<vec4u, VECTORS * WEIGHT_STRIDE>;
var<workgroup> bounds: array<vec2u, SUBGROUPS>;                    // lowest and highest position
var<workgroup> raised: array<u32, SUBGROUPS>;

// Two invocations share a vector: 8 keys of a round each, and 8 columns of a tile of sums.
fn vector_of(lane: u32) -> u32 { return lane / 2u; }

fn attend_many(task: Task, s: Segment, kv_head: u32, lane: u32) {
  var queries: array<Left, DIM_TILES>;
  workgroupBarrier();
  for (var g = 0u; g < SUBGROUPS; g++) {
    for (var i = lane; i < 16u * UNITS; i += WIDTH) { tile[place(i)] = query_unit(task, s, kv_head, 16u * g + i / UNITS, i % UNITS); }
    workgroupBarrier();
    if (lane / 32u == g) {
      for (var d = 0u; d < DIM_TILES; d++) { queries[d] = subgroupMatrixLoad<Left, row_major>(&tile, 2u * d, STRIDE); }
    }
    workgroupBarrier();
  }
  let position = batch[1u + s.first_row + (task.first + min(vector_of(lane), task.count - 1u)) / SHARE].y;
  let lowest = subgroupMin(position);
  let highest = subgroupMax(position);
  if (lane % 32u == 0u) { bounds[lane / 32u] = vec2u(lowest, highest); }
  let span = span_below(task, s, workgroupUniformLoad(&bounds));
  let start = span.begin / KEYS * KEYS;
  let last = (max(span.end, 1u) - 1u) / KEYS * KEYS;
  let own = lane / 32u * 16u * SCORE_STRIDE;                       // a subgroup's part of scores

  var sums: Totals;
  var keys: array<vec4u, LOADS>;
  var values: array<vec4u, LOADS>;
  var reference = LOWEST;
  var total = 0.0;
  var pages = pages_of(s, start);
  for (var i = 0u; i < LOADS; i++) {
    let at = unit_at(pages, start, kv_head, lane + WIDTH * i);
    keys[i] = kv[at];
    values[i] = kv[at + VALUES];
  }
  pages = pages_of(s, min(start + KEYS, last));
  for (var k = start; k < span.end; k += KEYS) {
    let next = min(k + KEYS, last);
    for (var i = 0u; i < LOADS; i++) { put(lane + WIDTH * i, keys[i]); }
    workgroupBarrier();
    for (var i = 0u; i < LOADS; i++) { keys[i] = kv[unit_at(pages, next, kv_head, lane + WIDTH * i)]; }
    var dots = Sums();
    for (var d = 0u; d < DIM_TILES; d++) {
      dots = subgroupMatrixMultiplyAccumulate(queries[d], subgroupMatrixLoad<Right, col_major>(&tile, 2u * d, STRIDE), dots);
    }
    subgroupMatrixStore<row_major>(&scores, own, dots, SCORE_STRIDE);
    workgroupBarrier();
    for (var i = 0u; i < LOADS; i++) {
      // What lies outside of the span may be anything, and 0 · NaN is NaN.
      let key = k + (lane + WIDTH * i) / UNITS;
      put(lane + WIDTH * i, select(vec4u(), values[i], key >= span.begin && key < span.end));
    }
    for (var i = 0u; i < LOADS; i++) { values[i] = kv[unit_at(pages, next, kv_head, lane + WIDTH * i) + VALUES]; }
    pages = pages_of(s, min(next + KEYS, last));

    // Scores become weights; a reference that a score exceeds by far moves to it.
    var best = LOWEST;
    var score: array<f32, 8>;
    for (var i = 0u; i < 8u; i++) {
      let key = k + lane % 2u * 8u + i;
      let at = key + s.base;
      let visible = key >= span.begin && key < span.end && at <= position && (WINDOW == 0u || at + WINDOW > position);
      score[i] = select(LOWEST, scores[vector_of(lane) * SCORE_STRIDE + lane % 2u * 8u + i], visible);
      best = max(best, score[i]);
    }
    best = max(best, subgroupShuffleXor(best, 1u));
    let before = reference;
    let moved = best > before + slack;
    reference = select(before, best, moved);
    var weight: array<vec2f, 4>;
    for (var i = 0u; i < 4u; i++) {
      let pair = vec2f(score[2u * i], score[2u * i + 1u]);
      weight[i] = select(exp(pair - reference), vec2f(), pair <= vec2f(LOWEST));
    }
    let packed = vec4u(pack2x16float(weight[0]), pack2x16float(weight[1]), pack2x16float(weight[2]), pack2x16float(weight[3]));
    weights[vector_of(lane) * WEIGHT_STRIDE + lane % 2u] = packed;
    var sum = 0.0;
    for (var i = 0u; i < 4u; i++) { sum += dot(unpack2x16float(packed[i]), vec2f(1.0)); }
    sum += subgroupShuffleXor(sum, 1u);
    let shrink = select(1.0, exp(before - reference), moved);
    total = total * shrink + sum;
    let any = subgroupAny(moved && before > LOWEST);
    if (lane % 32u == 0u) { raised[lane / 32u] = select(0u, 1u, any); }
    if (sum_of(workgroupUniformLoad(&raised)) > 0u) { scale(&sums, shrink, lane); }

    let w = subgroupMatrixLoad<Left, row_major>(&weights, lane / 32u * 16u * WEIGHT_STRIDE, WEIGHT_STRIDE);
    for (var d = 0u; d < DIM_TILES; d++) {
      sums[d] = subgroupMatrixMultiplyAccumulate(w, subgroupMatrixLoad<Right, row_major>(&tile, 2u * d, STRIDE), sums[d]);
    }
    workgroupBarrier();
  }

  // No matrix is indexed by a loop that holds a barrier, or all would live in memory: they move up instead.
  let v = vector_of(lane);
  for (var i = 0u; i < DIM_TILES; i++) {
    subgroupMatrixStore<row_major>(&scores, own, sums[0], SCORE_STRIDE);
    for (var j = 1u; j < DIM_TILES; j++) { sums[j - 1u] = sums[j]; }
    workgroupBarrier();
    if (v < task.count && total > 0.0) {
      for (var c = 0u; c < 2u; c++) {
        let first = v * SCORE_STRIDE + lane % 2u * 8u + 4u * c;
        let quad = vec4f(scores[first], scores[first + 1u], scores[first + 2u], scores[first + 3u]);
        partial[slot_of(task, s, v, kv_head) * QUADS + 4u * i + lane % 2u * 2u + c] = quad / total;
      }
    }
    workgroupBarrier();
  }
  if (v < task.count && lane % 2u == 0u) {
    log_sums[slot_of(task, s, v, kv_head)] = select(LOWEST, reference + log(total), total > 0.0);
  }
}

fn scale(sums: ptr<function, Totals>, shrink: f32, lane: u32) {
  let own = lane / 32u * 16u * SCORE_STRIDE;
  let first = vector_of(lane) * SCORE_STRIDE + lane % 2u * 8u;
  for (var i = 0u; i < DIM_TILES; i++) {
    subgroupMatrixStore<row_major>(&scores, own, (*sums)[0], SCORE_STRIDE);
    for (var j = 1u; j < DIM_TILES; j++) { (*sums)[j - 1u] = (*sums)[j]; }
    workgroupBarrier();
    for (var c = 0u; c < 8u; c++) { scores[first + c] *= shrink; }
    workgroupBarrier();
    (*sums)[DIM_TILES - 1u] = subgroupMatrixLoad<Sums, row_major>(&scores, own, SCORE_STRIDE);
    workgroupBarrier();
  }
}

fn span_below(task: Task, s: Segment, all: array<vec2u, SUBGROUPS>) -> Span {
  var range = all[0];
  for (var i = 1u; i < SUBGROUPS; i++) { range = vec2u(min(range.x, all[i].x), max(range.y, all[i].y)); }
  return seen_by(task, s, range.x, range.y);
}

fn sum_of(flags: array<u32, SUBGROUPS>) -> u32 {
  var sum = 0u;
  for (var i = 0u; i < SUBGROUPS; i++) { sum += flags[i]; }
  return sum;
}

fn query_unit(task: Task, s: Segment, kv_head: u32, v: u32, unit: u32) -> vec4u {
  let vector = task.first + min(v, task.count - 1u);
  let head = kv_head * SHARE + vector % SHARE;
  let start = (s.first_row + vector / SHARE) * (Q_STRIDE / 4u) + head * QUADS + unit * 2u;
  let a = q[start] * SCALE;
  let b = q[start + 1u] * SCALE;
  return vec4u(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
}

fn place(unit: u32) -> u32 { return unit / UNITS * STRIDE + unit % UNITS; }

fn put(unit: u32, value: vec4u) {
  if (KEYS * UNITS % WIDTH == 0u || unit < KEYS * UNITS) { tile[place(unit)] = value; }
}

fn pages_of(s: Segment, k: u32) -> Pages {
  var pages: Pages;
  for (var i = 0u; i < PAGES; i++) { pages[i] = page_of(s, k + PAGE * i); }
  return pages;
}

// Where a unit of a round's keys is.
fn unit_at(pages: Pages, k: u32, kv_head: u32, unit: u32) -> u32 {
  let key = min(unit / UNITS, KEYS - 1u);
  return ((pages[min(key / PAGE, PAGES - 1u)] * 2u * KV_HEADS + kv_head) * PAGE + (k + key) % PAGE) * UNITS + unit % UNITS;
}

fn quad_of(unit: vec4u, i: u32) -> vec4f {
  let bits = select(unit.xy, unit.zw, i == 1u);
  return vec4f(unpack2x16float(bits.x), unpack2x16float(bits.y));
}

// Sums of few vectors lie where keys do.
fn put_joint(at: u32, sum: vec4f) { tile[at] = bitcast<vec4u>(sum); }
fn joint_quad(at: u32) -> vec4f { return bitcast<vec4f>(tile[at]); }
`;
