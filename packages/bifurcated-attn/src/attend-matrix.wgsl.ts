/**
 * For GPUs with subgroup matrices (16 × 16 × 16, f16 in, f32 out; subgroups of 32) and KV in f16: a workgroup of
 * SUBGROUPS attends for a tile of VECTORS query vectors, KEYS keys a round, which go through workgroup memory once for all
 * of them. While keys are scored, the round's values are on their way, and the next keys while values are added up.
 *
 * Softmax goes on from round to round with a reference that only moves when a score exceeds it by \`slack\`: sums are
 * held in subgroup matrices, which cannot be multiplied in place, and so are seldom scaled.
 */
export const attendMatrix = /* wgsl */ `
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;

const WIDTH = 32u * SUBGROUPS;
const ROW_TILES = VECTORS / 16u;
const DIM_TILES = HEAD_DIM / 16u;
const KEY_TILES = (KEYS / 16u + SUBGROUPS - 1u) / SUBGROUPS;       // that a subgroup scores
const OWN_DIMS = (DIM_TILES + SUBGROUPS - 1u) / SUBGROUPS;         // tiles of columns that a subgroup adds up
const UNITS = HEAD_DIM / 8u;                                       // 16 bytes each: two quads
const UNIT_QUADS = 2u;
const STRIDE = UNITS + 1u;                                         // of a tile's row; odd: no bank conflicts
const LOADS = (KEYS * UNITS + WIDTH - 1u) / WIDTH;                 // an invocation's, a round
const SCORE_STRIDE = max(KEYS, HEAD_DIM) + 8u;
const WEIGHT_STRIDE = KEYS + 8u;
const LANES = WIDTH / VECTORS;                                     // invocations that share a vector's softmax
const VALUES = KV_HEADS * PAGE * UNITS;                            // from a key to its value
const PAGES = max(1u, KEYS / PAGE);                                // of a round
const slack = 8.0;                                                 // weights stay below e^8 in f16

var<workgroup> queries: array<vec4u, VECTORS * STRIDE>;
var<workgroup> tile: array<vec4u, KEYS * STRIDE>;                  // keys and values in turns
var<workgroup> scores: array<f32, VECTORS * SCORE_STRIDE>;         // and sums, when they are scaled or done
var<workgroup> weights: array<f16, VECTORS * WEIGHT_STRIDE>;
var<workgroup> positions: array<u32, VECTORS>;
var<workgroup> reference: array<f32, VECTORS>;
var<workgroup> total: array<f32, VECTORS>;
var<workgroup> shrink: array<f32, VECTORS>;
var<workgroup> raised: array<u32, SUBGROUPS>;                      // no vector: writing a component may write all
var<workgroup> bounds: vec2u;                                      // lowest and highest position
var<workgroup> pages: array<u32, PAGES>;                           // of the next round's keys

fn attend_many(task: Task, s: Segment, kv_head: u32, lane: u32) {
  let subgroup = lane / 32u;
  workgroupBarrier();
  begin(task, s, kv_head, lane);
  let range = workgroupUniformLoad(&bounds);
  let span = seen_by(task, s, range.x, range.y);
  let start = span.begin / KEYS * KEYS;
  if (lane < PAGES) { pages[lane] = page_of(s, start + lane * PAGE); }
  var sums: array<Sums, ROW_TILES * OWN_DIMS>;
  var units: array<vec4u, LOADS>;
  var at: array<u32, LOADS>;
  workgroupBarrier();
  for (var i = 0u; i < LOADS; i++) {
    at[i] = unit_at(span, start, kv_head, lane + WIDTH * i);
    units[i] = kv[at[i]];
  }
  for (var k = start; k < span.end; k += KEYS) {
    workgroupBarrier();
    for (var i = 0u; i < LOADS; i++) { put(lane + WIDTH * i, units[i]); }
    workgroupBarrier();
    for (var i = 0u; i < LOADS; i++) { units[i] = kv[at[i] + VALUES]; }
    if (lane < PAGES) { pages[lane] = page_of(s, k + KEYS + lane * PAGE); }
    for (var i = 0u; i < KEY_TILES; i++) {
      let own = subgroup + SUBGROUPS * i;
      if (own < KEYS / 16u) { score(own); }
    }
    workgroupBarrier();
    for (var i = 0u; i < LOADS; i++) {
      // What lies outside of the span may be anything, and 0 · NaN is NaN.
      let key = k + (lane + WIDTH * i) / UNITS;
      put(lane + WIDTH * i, select(vec4u(), units[i], key >= span.begin && key < span.end));
    }
    soften(s, span, k, lane);
    let any = workgroupUniformLoad(&raised);
    if (k + KEYS < span.end) {
      for (var i = 0u; i < LOADS; i++) {
        at[i] = unit_at(span, k + KEYS, kv_head, lane + WIDTH * i);
        units[i] = kv[at[i]];
      }
    }
    if (sum_of(any) > 0u) {
      for (var i = 0u; i < ROW_TILES * OWN_DIMS; i++) { put_sums(sums[i], i, subgroup); }
      workgroupBarrier();
      for (var i = lane; i < VECTORS * HEAD_DIM; i += WIDTH) {
        scores[i / HEAD_DIM * SCORE_STRIDE + i % HEAD_DIM] *= shrink[i / HEAD_DIM];
      }
      workgroupBarrier();
      for (var i = 0u; i < ROW_TILES * OWN_DIMS; i++) { sums[i] = sums_of(i, subgroup); }
    }
    for (var j = 0u; j < KEYS / 16u; j++) {
      var w: array<Left, ROW_TILES>;
      for (var m = 0u; m < ROW_TILES; m++) {
        w[m] = subgroupMatrixLoad<Left, row_major>(&weights, m * 16u * WEIGHT_STRIDE + j * 16u, WEIGHT_STRIDE);
      }
      for (var o = 0u; o < OWN_DIMS; o++) {
        let d = min(subgroup * OWN_DIMS + o, DIM_TILES - 1u);
        let values = subgroupMatrixLoad<Right, row_major>(&tile, j * 16u * STRIDE + d * 2u, STRIDE);
        for (var m = 0u; m < ROW_TILES; m++) {
          sums[m * OWN_DIMS + o] = subgroupMatrixMultiplyAccumulate(w[m], values, sums[m * OWN_DIMS + o]);
        }
      }
    }
  }
  workgroupBarrier();
  for (var i = 0u; i < ROW_TILES * OWN_DIMS; i++) { put_sums(sums[i], i, subgroup); }
  workgroupBarrier();
  finish(task, s, kv_head, lane);
}

// Scores of a tile of keys.
fn score(t: u32) {
  var dots: array<Sums, ROW_TILES>;
  for (var m = 0u; m < ROW_TILES; m++) { dots[m] = Sums(); }       // Dawn zeroes a variable but once, not each time
  for (var d = 0u; d < DIM_TILES; d++) {
    let keys = subgroupMatrixLoad<Right, col_major>(&tile, t * 16u * STRIDE + d * 2u, STRIDE);
    for (var m = 0u; m < ROW_TILES; m++) {
      dots[m] = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&queries, m * 16u * STRIDE + d * 2u, STRIDE), keys, dots[m]);
    }
  }
  for (var m = 0u; m < ROW_TILES; m++) {
    subgroupMatrixStore<row_major>(&scores, m * 16u * SCORE_STRIDE + t * 16u, dots[m], SCORE_STRIDE);
  }
}

fn quad_of(unit: vec4u, i: u32) -> vec4f {
  let bits = select(unit.xy, unit.zw, i == 1u);
  return vec4f(unpack2x16float(bits.x), unpack2x16float(bits.y));
}

// Sums of few vectors lie where scores do.
fn put_joint(at: u32, sum: vec4f) { for (var c = 0u; c < 4u; c++) { scores[4u * at + c] = sum[c]; } }
fn joint_quad(at: u32) -> vec4f { return vec4f(scores[4u * at], scores[4u * at + 1u], scores[4u * at + 2u], scores[4u * at + 3u]); }

fn sum_of(flags: array<u32, SUBGROUPS>) -> u32 {
  var sum = 0u;
  for (var i = 0u; i < SUBGROUPS; i++) { sum += flags[i]; }
  return sum;
}

fn place(unit: u32) -> u32 { return unit / UNITS * STRIDE + unit % UNITS; }

fn put(unit: u32, value: vec4u) {
  if (KEYS * UNITS % WIDTH == 0u || unit < KEYS * UNITS) { tile[place(unit)] = value; }
}

// Queries and positions go to workgroup memory.
fn begin(task: Task, s: Segment, kv_head: u32, lane: u32) {
  for (var i = lane; i < VECTORS * UNITS; i += WIDTH) {
    let vector = task.first + min(i / UNITS, task.count - 1u);
    let head = kv_head * SHARE + vector % SHARE;
    let start = (s.first_row + vector / SHARE) * (Q_STRIDE / 4u) + head * QUADS + i % UNITS * 2u;
    let a = q[start] * SCALE;
    let b = q[start + 1u] * SCALE;
    queries[place(i)] = vec4u(
      pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw),
    );
  }
  let position = batch[1u + s.first_row + (task.first + min(lane, task.count - 1u)) / SHARE].y;
  let lowest = subgroupMin(position);
  let highest = subgroupMax(position);
  if (lane < VECTORS) {
    positions[lane] = position;
    reference[lane] = LOWEST;
    total[lane] = 0.0;
  }
  if (lane == 0u) { bounds = vec2u(lowest, highest); }
}

// Where a unit of a round's keys is; outside of the span another key's.
fn unit_at(span: Span, k: u32, kv_head: u32, unit: u32) -> u32 {
  let key = clamp(k + unit / UNITS, span.begin, max(span.begin + 1u, span.end) - 1u);
  let page = pages[min((key - k) / PAGE, PAGES - 1u)];
  return ((page * 2u * KV_HEADS + kv_head) * PAGE + key % PAGE) * UNITS + unit % UNITS;
}

// Scores become weights; a reference that a score exceeds by far moves to it.
fn soften(s: Segment, span: Span, k: u32, lane: u32) {
  let v = lane / LANES;
  let position = positions[v];
  var best = LOWEST;
  var own: array<f32, KEYS / LANES>;
  for (var i = 0u; i < KEYS / LANES; i++) {
    let j = lane % LANES + LANES * i;
    let at = k + j + s.base;
    let visible = k + j >= span.begin && k + j < span.end && at <= position && (WINDOW == 0u || at + WINDOW > position);
    own[i] = select(LOWEST, scores[v * SCORE_STRIDE + j], visible);
    best = max(best, own[i]);
  }
  for (var mask = 1u; mask < LANES; mask *= 2u) { best = max(best, subgroupShuffleXor(best, mask)); }
  let before = reference[v];
  let moved = best > before + slack;
  let now = select(before, best, moved);
  var sum = 0.0;
  for (var i = 0u; i < KEYS / LANES; i++) {
    let weight = f16(select(exp(own[i] - now), 0.0, own[i] <= LOWEST));
    sum += f32(weight);
    weights[v * WEIGHT_STRIDE + lane % LANES + LANES * i] = weight;
  }
  for (var mask = 1u; mask < LANES; mask *= 2u) { sum += subgroupShuffleXor(sum, mask); }
  let scale = select(1.0, exp(before - now), moved);
  if (lane % LANES == 0u) {
    reference[v] = now;
    shrink[v] = scale;
    total[v] = total[v] * scale + sum;
  }
  let any = subgroupAny(moved);
  if (lane % 32u == 0u) { raised[lane / 32u] = select(0u, 1u, any); }
}

fn put_sums(sum: Sums, i: u32, subgroup: u32) {
  let d = subgroup * OWN_DIMS + i % OWN_DIMS;
  if (d < DIM_TILES) {
    subgroupMatrixStore<row_major>(&scores, i / OWN_DIMS * 16u * SCORE_STRIDE + d * 16u, sum, SCORE_STRIDE);
  }
}

fn sums_of(i: u32, subgroup: u32) -> Sums {
  let d = min(subgroup * OWN_DIMS + i % OWN_DIMS, DIM_TILES - 1u);
  return subgroupMatrixLoad<Sums, row_major>(&scores, i / OWN_DIMS * 16u * SCORE_STRIDE + d * 16u, SCORE_STRIDE);
}

fn finish(task: Task, s: Segment, kv_head: u32, lane: u32) {
  for (var i = lane; i < task.count * QUADS; i += WIDTH) {
    let v = i / QUADS;
    let start = v * SCORE_STRIDE + i % QUADS * 4u;
    if (total[v] > 0.0) {
      let sum = vec4f(scores[start], scores[start + 1u], scores[start + 2u], scores[start + 3u]);
      partial[slot_of(task, s, v, kv_head) * QUADS + i % QUADS] = sum / total[v];
    }
  }
  if (lane < task.count) {
    log_sums[slot_of(task, s, lane, kv_head)] = select(LOWEST, reference[lane] + log(total[lane]), total[lane] > 0.0);
  }
}
`;
