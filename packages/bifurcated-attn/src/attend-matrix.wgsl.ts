/**
 * For GPUs with subgroup matrices (16 × 16 × 16, f16 in, f32 out; subgroups of 32) and KV in f16: a workgroup attends for a
 * tile of VECTORS query vectors. SHARES subgroups have 16 of them together, each some of a head's columns: of queries while
 * keys are scored, which it keeps in registers, and of values while they are added up. Keys and values go through
 * workgroup memory in turns, KEYS a round, once for all vectors; the next round's are on their way meanwhile.
 *
 * Drivers give the workgroups of a processor little workgroup memory together (48 KiB on an H100): what one takes decides
 * how many there are. And the instructions of a subgroup wait for each other, so that it matters how many of them a round
 * takes (docs/performance-log.md).
 *
 * Softmax goes on from round to round with a reference that only moves when a score exceeds it by \`slack\`: sums are
 * held in subgroup matrices, which cannot be multiplied in place, and so are seldom scaled.
 */
export const attendMatrix = /* wgsl */ `
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;

const SUBGROUPS = VECTORS / 16u * SHARES;
const WIDTH = 32u * SUBGROUPS;
const DIM_TILES = HEAD_DIM / 16u;
const OWN_TILES = (DIM_TILES + SHARES - 1u) / SHARES;              // tiles of columns that a subgroup has
const STRIDE = UNITS + 1u;                                         // of a tile's row; odd: no bank conflicts
const LOADS = (KEYS * UNITS + WIDTH - 1u) / WIDTH;                 // an invocation's, a round
const LANES = 2u * SHARES;                                         // invocations that share a vector's softmax
const LANE_BITS = firstTrailingBit(LANES);
const OWN_KEYS = KEYS / LANES;                                     // of a round
const SCORE_STRIDE = KEYS / 4u + 1u;                               // in fours
const PART = 16u * SCORE_STRIDE;                                   // a subgroup's part of scores
const SCORES = KEYS * STRIDE;                                      // where they are
const WEIGHT_STRIDE = KEYS / 8u + 1u;                              // in eights
const PAGES = max(1u, KEYS / PAGE);                                // of a round
const EVEN = KEYS * UNITS % WIDTH == 0u;
const ALIGNED = WIDTH % UNITS == 0u;                               // an invocation's units are in one column
const slack = 8.0;                                                 // weights stay below e^8 in f16
alias Totals = array<Sums, OWN_TILES>;
alias Pages = array<u32, PAGES>;

// At first queries, then keys and values in turns; behind them scores, and sums when they are scaled or done. Matrices are
// loaded from elements of 16 bytes alone: GPUs take that alignment for granted.
var<workgroup> room: array<vec4u, SCORES + SUBGROUPS * PART>;
var<workgroup> weights: array<vec4u, VECTORS * WEIGHT_STRIDE>;
var<workgroup> shrinks: array<f32, VECTORS>;                       // of what was added up before a reference moved; at last totals
var<workgroup> bounds: array<vec2u, SUBGROUPS>;                    // lowest and highest position
var<workgroup> raised: array<u32, SUBGROUPS>;

// What an invocation has of its subgroup's queries and of the next round, and of the vector whose softmax it shares.
struct Own {
  queries: array<Left, OWN_TILES>,
  keys: array<vec4u, LOADS>,
  values: array<vec4u, LOADS>,
  pages: Pages,
  first: u32,                                                      // keys that the vector sees: so many from the first on
  count: u32,
  reference: f32,
  total: f32,
}

fn attend_many(task: Task, kv_head: u32, lane: u32) {
  let s = segment_at(task.record);
  let subgroup = lane / 32u;
  let v = lane / LANES;
  let position = batch[1u + s.first_row + (task.first + min(v, task.count - 1u)) / SHARE].y;
  let lowest = subgroupMin(position);
  let highest = subgroupMax(position);
  if (lane % 32u == 0u) { bounds[subgroup] = vec2u(lowest, highest); }
  let span = span_below(task, s, workgroupUniformLoad(&bounds));
  let start = span.begin / KEYS * KEYS;
  let last = (max(span.end, 1u) - 1u) / KEYS * KEYS;
  let oldest = select(0u, position + 1u - min(position + 1u, WINDOW + s.base), WINDOW > 0u);
  let seen = min(span.end, position + 1u - min(position + 1u, s.base));
  var own: Own;
  own.first = max(span.begin, oldest);
  own.count = seen - min(seen, own.first);
  own.reference = LOWEST;

  let origin = start / PAGE / s.modulus * s.modulus;
  own.pages = pages_of(s, origin, start);
  for (var i = 0u; i < LOADS; i++) {
    let at = unit_at(own.pages, span, start, kv_head, lane, i);
    own.keys[i] = kv[at];
    own.values[i] = kv[at + VALUES];
  }
  own.pages = pages_of(s, origin, min(start + KEYS, last));
  for (var r = 0u; r < VECTORS / 16u; r++) {
    workgroupBarrier();
    for (var i = lane; i < 16u * UNITS; i += WIDTH) {
      room[i / UNITS * STRIDE + i % UNITS] = query_unit(task, s, kv_head, 16u * r + i / UNITS, i % UNITS);
    }
    workgroupBarrier();
    if (subgroup / SHARES == r) {
      for (var d = 0u; d < OWN_TILES; d++) {
        own.queries[d] = subgroupMatrixLoad<Left, row_major>(&room, 2u * own_tile(subgroup, d), STRIDE);
      }
    }
  }
  var sums: Totals;
  for (var k = start; k < span.end; k += KEYS) {
    if (weigh(&own, span, k, min(k + KEYS, last), kv_head, lane) > 0u) { scale(&sums, lane); }
    own.pages = pages_of(s, origin, min(k + 2u * KEYS, last));
    for (var t = 0u; t < KEYS / 16u; t++) {
      let at = subgroup / SHARES * 16u * WEIGHT_STRIDE + 2u * t;
      let left = subgroupMatrixLoad<Left, row_major>(&weights, at, WEIGHT_STRIDE);
      for (var d = 0u; d < OWN_TILES; d++) {
        let right = subgroupMatrixLoad<Right, row_major>(&room, t * 16u * STRIDE + 2u * own_tile(subgroup, d), STRIDE);
        sums[d] = subgroupMatrixMultiplyAccumulate(left, right, sums[d]);
      }
    }
  }
  if (lane % LANES == 0u) { shrinks[v] = own.total; }
  finish(&sums, task, s, kv_head, lane);
  if (v < task.count && lane % LANES == 0u) {
    log_sums[slot_of(task, s, v, kv_head)] = select(LOWEST, own.reference + log(own.total), own.total > 0.0);
  }
}

// Tile d of a subgroup's columns; where shares are uneven the last one again.
fn own_tile(subgroup: u32, d: u32) -> u32 { return min(subgroup % SHARES * OWN_TILES + d, DIM_TILES - 1u); }
fn has_tile(subgroup: u32, d: u32) -> bool { return DIM_TILES % SHARES == 0u || subgroup % SHARES * OWN_TILES + d < DIM_TILES; }

// Scores of a round's keys become weights, and its values go where the keys were; meanwhile the next round's are loaded. A
// reference that a score exceeds by far moves to it. Returns whether any has moved.
fn weigh(own: ptr<function, Own>, span: Span, k: u32, next: u32, kv_head: u32, lane: u32) -> u32 {
  let v = lane / LANES;
  let subgroup = lane / 32u;
  workgroupBarrier();
  for (var i = 0u; i < LOADS; i++) { put((*own).keys[i], lane, i); }
  workgroupBarrier();
  for (var i = 0u; i < LOADS; i++) { (*own).keys[i] = kv[unit_at((*own).pages, span, next, kv_head, lane, i)]; }
  for (var t = 0u; t < KEYS / 16u; t++) {
    var dots = Sums();                                             // Dawn zeroes a variable but once, not each time
    for (var d = 0u; d < OWN_TILES; d++) {
      if (has_tile(subgroup, d)) {
        let right = subgroupMatrixLoad<Right, col_major>(&room, t * 16u * STRIDE + 2u * own_tile(subgroup, d), STRIDE);
        dots = subgroupMatrixMultiplyAccumulate((*own).queries[d], right, dots);
      }
    }
    subgroupMatrixStore<row_major>(&room, SCORES + subgroup * PART + 4u * t, dots, SCORE_STRIDE);
  }
  workgroupBarrier();
  for (var i = 0u; i < LOADS; i++) { put((*own).values[i], lane, i); }
  for (var i = 0u; i < LOADS; i++) { (*own).values[i] = kv[unit_at((*own).pages, span, next, kv_head, lane, i) + VALUES]; }

  var best = LOWEST;
  var score: array<vec4f, OWN_KEYS / 4u>;
  for (var i = 0u; i < OWN_KEYS / 4u; i++) {
    let four = lane % LANES * (OWN_KEYS / 4u) + i;
    var sum = vec4f();
    for (var share = 0u; share < SHARES; share++) {
      sum += score_at((v / 16u * SHARES + share) * PART + v % 16u * SCORE_STRIDE + four);
    }
    let seen = k + 4u * four + vec4u(0u, 1u, 2u, 3u) - (*own).first < vec4u((*own).count);
    score[i] = select(vec4f(LOWEST), sum, seen);
    best = max(best, max(max(score[i].x, score[i].y), max(score[i].z, score[i].w)));
  }
  for (var bit = 0u; bit < LANE_BITS; bit++) { best = max(best, subgroupShuffleXor(best, 1u << bit)); }
  let before = (*own).reference;
  let moved = best > before + slack;
  let reference = select(before, best, moved);
  let subtracted = select(reference, 0.0, reference <= LOWEST);    // nothing seen yet: weights of exp(LOWEST) = 0
  var sum = 0.0;
  var pairs: array<vec2u, OWN_KEYS / 4u>;
  for (var i = 0u; i < OWN_KEYS / 4u; i++) {
    let weight = exp(score[i] - subtracted);
    pairs[i] = vec2u(pack2x16float(weight.xy), pack2x16float(weight.zw));
    sum += dot(unpack2x16float(pairs[i].x) + unpack2x16float(pairs[i].y), vec2f(1.0));
  }
  put_weights(pairs, lane);
  for (var bit = 0u; bit < LANE_BITS; bit++) { sum += subgroupShuffleXor(sum, 1u << bit); }
  let shrink = select(1.0, exp(before - reference), moved);
  (*own).reference = reference;
  (*own).total = (*own).total * shrink + sum;
  if (lane % LANES == 0u) { shrinks[v] = shrink; }
  let any = subgroupAny(moved && before > LOWEST);
  if (lane % 32u == 0u) { raised[subgroup] = select(0u, 1u, any); }
  return sum_of(workgroupUniformLoad(&raised));
}

// Eight weights are an element, of one invocation or of two.
fn put_weights(pairs: array<vec2u, OWN_KEYS / 4u>, lane: u32) {
  let first = lane / LANES * WEIGHT_STRIDE + lane % LANES * OWN_KEYS / 8u;
  if (OWN_KEYS == 4u) {
    let own = bitcast<vec2f>(pairs[0]);
    let other = bitcast<vec2u>(vec2f(subgroupShuffleXor(own.x, 1u), subgroupShuffleXor(own.y, 1u)));
    if (lane % 2u == 0u) { weights[first] = vec4u(pairs[0], other); }
  }
  for (var i = 0u; i < OWN_KEYS / 8u; i++) { weights[first + i] = vec4u(pairs[2u * i], pairs[2u * i + 1u]); }
}

// No matrix is indexed by a loop that holds a barrier, or all would live in memory: they move up instead.
fn scale(sums: ptr<function, Totals>, lane: u32) {
  let part = lane / 32u * PART;
  let row = lane % 32u / 2u;
  let shrink = shrinks[lane / 32u / SHARES * 16u + row];
  for (var i = 0u; i < OWN_TILES; i++) {
    subgroupMatrixStore<row_major>(&room, SCORES + part, (*sums)[0], SCORE_STRIDE);
    for (var j = 1u; j < OWN_TILES; j++) { (*sums)[j - 1u] = (*sums)[j]; }
    workgroupBarrier();
    for (var c = 0u; c < 2u; c++) {
      let at = part + row * SCORE_STRIDE + lane % 2u * 2u + c;
      room[SCORES + at] = bitcast<vec4u>(score_at(at) * shrink);
    }
    workgroupBarrier();
    (*sums)[OWN_TILES - 1u] = subgroupMatrixLoad<Sums, row_major>(&room, SCORES + part, SCORE_STRIDE);
    workgroupBarrier();
  }
}

fn finish(sums: ptr<function, Totals>, task: Task, s: Segment, kv_head: u32, lane: u32) {
  let subgroup = lane / 32u;
  let row = lane % 32u / 2u;
  let v = subgroup / SHARES * 16u + row;
  workgroupBarrier();
  let total = shrinks[v];
  for (var i = 0u; i < OWN_TILES; i++) {
    subgroupMatrixStore<row_major>(&room, SCORES + subgroup * PART, (*sums)[0], SCORE_STRIDE);
    for (var j = 1u; j < OWN_TILES; j++) { (*sums)[j - 1u] = (*sums)[j]; }
    workgroupBarrier();
    if (v < task.count && total > 0.0 && has_tile(subgroup, i)) {
      for (var c = 0u; c < 2u; c++) {
        let four = lane % 2u * 2u + c;
        let sum = score_at(subgroup * PART + row * SCORE_STRIDE + four);
        partial[slot_of(task, s, v, kv_head) * QUADS + 4u * own_tile(subgroup, i) + four] = sum / total;
      }
    }
    workgroupBarrier();
  }
}

fn score_at(i: u32) -> vec4f { return bitcast<vec4f>(room[SCORES + i]); }

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

// Pages of a round from key \`k\` on. The page table is a ring where there is a window: \`origin\` is where it was begun last
// before the span, whose keys go around it but once.
fn pages_of(s: Segment, origin: u32, k: u32) -> Pages {
  var pages: Pages;
  for (var i = 0u; i < PAGES; i++) {
    let entry = k / PAGE + i - origin;
    pages[i] = plan[s.pages + select(entry, entry - s.modulus, entry >= s.modulus)];
  }
  return pages;
}

// Where an invocation's unit i of a round's keys is. Outside of the span there may be anything, and 0 · NaN is NaN: a key of
// the span instead.
fn unit_at(pages: Pages, span: Span, k: u32, kv_head: u32, lane: u32, i: u32) -> u32 {
  let unit = select(min(lane + WIDTH * i, KEYS * UNITS - 1u), lane + WIDTH * i, EVEN);
  let column = select(unit % UNITS, lane % UNITS, ALIGNED);
  if (PAGE >= KEYS) {
    return ((pages[0] * 2u * KV_HEADS + kv_head) * PAGE + k % PAGE) * UNITS + clamp(unit, (max(span.begin, k) - k) * UNITS + column, (span.end - 1u - k) * UNITS + column);
  }
  let key = clamp(k + unit / UNITS, span.begin, span.end - 1u);
  return ((pages[min((key - k) / PAGE, PAGES - 1u)] * 2u * KV_HEADS + kv_head) * PAGE + key % PAGE) * UNITS + column;
}

fn put(value: vec4u, lane: u32, i: u32) {
  let unit = lane + WIDTH * i;
  let aligned = lane / UNITS * STRIDE + lane % UNITS + i * (WIDTH / UNITS * STRIDE);
  if (EVEN || unit < KEYS * UNITS) { room[select(unit / UNITS * STRIDE + unit % UNITS, aligned, ALIGNED)] = value; }
}

const JOINT_ROOM = SCORES + SUBGROUPS * PART;
fn joint_at(i: u32) -> vec4f { return bitcast<vec4f>(room[i]); }
fn set_joint(i: u32, sum: vec4f) { room[i] = bitcast<vec4u>(sum); }
`;
