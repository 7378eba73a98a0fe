/**
 * For GPUs with subgroups of 32 at least, a cache of f16 and heads of 64 or 128: a workgroup attends for 16 query vectors, and
 * every 32 invocations go through keys of their own, 16 a round, with a softmax of their own. Keys and values come straight
 * from memory, those of the next round or step while these are multiplied; queries go through workgroup memory, and weights, with
 * one barrier a round. Scores are added up by teams of eight invocations that share the columns of four keys; of the values, an
 * invocation has eight columns for the vectors of one or two rows.
 *
 * Vectors are in blocks of four: v is row v % 4 of block v / 4. Sums are matrices with names, by block or by row: as arrays they would
 * live in memory, since compilers do not unroll loops of so many instructions.
 */
export const attendTeam = /* wgsl */ `
const WIDTH = 128u;
const PARTS = WIDTH / 32u;
const VECTORS = 16u;
const ROUND = 16u * PARTS;                                         // keys of a round
const ROWS = UNITS / 8u;                                           // rows of vectors whose values an invocation adds up
const PART_WEIGHTS = 16u * 4u;                                     // of a round: keys, rows
const SIDE_WEIGHTS = PARTS * PART_WEIGHTS;                         // written while those of the other side are read
const JOINT_ROOM = max(2u * SIDE_WEIGHTS, VECTORS * QUADS);
var<workgroup> query: array<vec4u, VECTORS * UNITS>;
var<workgroup> room: array<vec4f, JOINT_ROOM>;                     // weights by key and row, then sums by vector
var<workgroup> shrinks: array<vec4f, 2u * PARTS * 4u>;             // by row, with components by block, as all of these
var<workgroup> tops: array<vec4f, PARTS * 4u>;
var<workgroup> totals: array<vec4f, PARTS * 4u>;

struct Four { a: vec4u, b: vec4u, c: vec4u, d: vec4u }             // a unit of each of four keys, or of their values
struct Sums { low: mat4x4f, high: mat4x4f }                        // of the vectors of a row, by block

fn attend_many(task: Task, kv_head: u32, lane: u32) {
  let s = segment_at(task.record);
  let part = lane / 32u;
  let row = lane % 8u / 2u;
  let own_row = lane % 32u / UNITS * ROWS;
  workgroupBarrier();
  bring_queries(task, s, kv_head, lane);
  let positions = vec4u(
    position_of(task, s, row), position_of(task, s, row + 4u), position_of(task, s, row + 8u), position_of(task, s, row + 12u),
  );
  var top = vec4f(LOWEST);
  var total = vec4f();
  var first: Sums;
  var second: Sums;
  let span = seen_span(task, s);
  if (span.begin < span.end) {
    let begin = span.begin & ~(ROUND - 1u);
    let of_team = lane / 8u * 4u;                                  // where its keys of a round begin
    var keys = four_at(s, span, kv_head, begin + of_team, lane % 8u);
    var more = keys;
    if (UNITS > 8u) { more = four_at(s, span, kv_head, begin + of_team, lane % 8u + 8u); }
    var values = four_at(s, span, kv_head, begin + 16u * part, lane % UNITS + VALUES);
    var side = 0u;
    workgroupBarrier();
    for (var k = begin; k < span.end; k += ROUND) {
      let columns = columns_of(keys);
      var a = scores(mat4x4f(), columns, lane % 8u);
      var b = scores(mat4x4f(), columns, lane % 8u + 4u * UNITS);
      var c = scores(mat4x4f(), columns, lane % 8u + 8u * UNITS);
      var d = scores(mat4x4f(), columns, lane % 8u + 12u * UNITS);
      if (UNITS > 8u) {
        let others = columns_of(more);
        a = scores(a, others, lane % 8u + 8u);
        b = scores(b, others, lane % 8u + 8u + 4u * UNITS);
        c = scores(c, others, lane % 8u + 8u + 8u * UNITS);
        d = scores(d, others, lane % 8u + 8u + 12u * UNITS);
      }
      let pairs = mat4x2f(over_team(a, lane), over_team(b, lane), over_team(c, lane), over_team(d, lane));
      keys = four_at(s, span, kv_head, k + ROUND + of_team, lane % 8u);
      if (UNITS > 8u) { more = four_at(s, span, kv_head, k + ROUND + of_team, lane % 8u + 8u); }
      // One step of the online softmax for the vectors of a row: scores of two keys become weights.
      let key = k + of_team + lane % 2u * 2u;
      let by_key = transpose(pairs);
      let even = seen(s, span, key, positions);
      let odd = seen(s, span, key + 1u, positions);
      var best = max(select(vec4f(LOWEST), by_key[0], even), select(vec4f(LOWEST), by_key[1], odd));
      best = max(best, across(best, 1u));
      best = max(best, across(best, 8u));
      best = max(top, max(best, across(best, 16u)));
      let weights = mat2x4f(select(vec4f(), exp(by_key[0] - best), even), select(vec4f(), exp(by_key[1] - best), odd));
      let shrink = exp(top - best);
      total = total * shrink + weights[0] + weights[1];
      top = best;
      let at = side * SIDE_WEIGHTS + part * PART_WEIGHTS;
      let own = side * SIDE_WEIGHTS + 4u * (key - k) + row;
      room[own] = weights[0];
      room[own + 4u] = weights[1];
      if (lane % 32u < 8u) { shrinks[(side * PARTS + part) * 4u + row] = shrink; }
      workgroupBarrier();
      let shrink_at = (side * PARTS + part) * 4u + own_row;
      first = scaled(first, shrinks[shrink_at]);
      if (ROWS > 1u) { second = scaled(second, shrinks[shrink_at + 1u]); }
      for (var step = 0u; step < 4u; step++) {
        let now = values;
        let then = k + select(4u * step + 4u, ROUND, step == 3u);
        values = four_at(s, span, kv_head, then + 16u * part, lane % UNITS + VALUES);
        first = add_values(first, now, at + 16u * step + own_row);
        if (ROWS > 1u) { second = add_values(second, now, at + 16u * step + own_row + 1u); }
      }
      side = 1u - side;
    }
  }
  total += across(total, 1u);
  total += across(total, 8u);
  total += across(total, 16u);
  if (lane % 32u < 8u) {
    tops[part * 4u + row] = top;
    totals[part * 4u + row] = total;
  }
  workgroupBarrier();
  first = scaled(first, share_of(part, own_row));
  if (ROWS > 1u) { second = scaled(second, share_of(part, own_row + 1u)); }
  for (var turn = 0u; turn < PARTS; turn++) {
    if (turn == part) {
      join_sums(first, own_row, lane, turn == 0u);
      if (ROWS > 1u) { join_sums(second, own_row + 1u, lane, turn == 0u); }
    }
    workgroupBarrier();
  }
  for (var i = lane; i < task.count * QUADS; i += WIDTH) {
    partial[slot_of(task, s, i / QUADS, kv_head) * QUADS + i % QUADS] = room[i];
  }
  if (lane < task.count) {
    let best = best_of(lane % 4u)[lane / 4u];
    let all = all_of(lane % 4u)[lane / 4u];
    log_sums[slot_of(task, s, lane, kv_head)] = select(LOWEST, best + log(all), all > 0.0);
  }
}

fn bring_queries(task: Task, s: Segment, kv_head: u32, lane: u32) {
  for (var i = lane; i < VECTORS * UNITS; i += WIDTH) {
    let vector = task.first + min(i / UNITS, task.count - 1u);
    let head = kv_head * SHARE + vector % SHARE;
    let at = (s.first_row + vector / SHARE) * (Q_STRIDE / 4u) + head * QUADS + i % UNITS * 2u;
    let low = q[at] * SCALE;
    let high = q[at + 1u] * SCALE;
    query[i] = vec4u(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
  }
}

fn position_of(task: Task, s: Segment, v: u32) -> u32 {
  return batch[1u + s.first_row + (task.first + min(v, task.count - 1u)) / SHARE].y;
}

fn seen(s: Segment, span: Span, key: u32, positions: vec4u) -> vec4<bool> {
  let at = vec4u(key + s.base);
  var visible = at <= positions;
  if (WINDOW > 0u) { visible &= at + WINDOW > positions; }
  return visible & vec4<bool>(key >= span.begin && key < span.end);
}

// A unit of keys k to k + 3, which are in one page. Outside of the span another is read: what lies there may be anything.
fn four_at(s: Segment, span: Span, kv_head: u32, k: u32, unit: u32) -> Four {
  let read = clamp(vec4u(k, k + 1u, k + 2u, k + 3u), vec4u(span.begin), vec4u(span.end - 1u));
  let at = ((page_of(s, read.x) * 2u * KV_HEADS + kv_head) * PAGE + read % PAGE) * UNITS + unit;
  return Four(kv[at.x], kv[at.y], kv[at.z], kv[at.w]);
}

fn columns_of(keys: Four) -> Columns {
  return Columns(
    transpose(mat4x4f(quad_of(keys.a, 0u), quad_of(keys.b, 0u), quad_of(keys.c, 0u), quad_of(keys.d, 0u))),
    transpose(mat4x4f(quad_of(keys.a, 1u), quad_of(keys.b, 1u), quad_of(keys.c, 1u), quad_of(keys.d, 1u))),
  );
}

// Adds products of eight columns to the scores of a block of vectors, four keys each.
fn scores(sums: mat4x4f, keys: Columns, at: u32) -> mat4x4f {
  return mat4x4f(
    add_eight(sums[0], keys, queries(at)), add_eight(sums[1], keys, queries(at + UNITS)),
    add_eight(sums[2], keys, queries(at + 2u * UNITS)), add_eight(sums[3], keys, queries(at + 3u * UNITS)),
  );
}

fn queries(at: u32) -> array<vec4f, 2> {
  let unit = query[at];
  return array<vec4f, 2>(quad_of(unit, 0u), quad_of(unit, 1u));
}

// Of what a team has, each of its invocations adds up a pair: a half of the rows, of these, and of the keys.
fn over_team(sums: mat4x4f, lane: u32) -> vec2f {
  let four = (lane & 4u) != 0u;
  let even = select(sums[0], sums[2], four) + across(select(sums[2], sums[0], four), 4u);
  let odd = select(sums[1], sums[3], four) + across(select(sums[3], sums[1], four), 4u);
  let two = (lane & 2u) != 0u;
  let row = select(even, odd, two) + across(select(odd, even, two), 2u);
  let pairs = select(row, row.zwxy, (lane & 1u) != 0u);
  return pairs.xy + across(pairs, 1u).zw;
}

fn scaled(sums: Sums, by: vec4f) -> Sums {
  return Sums(
    mat4x4f(sums.low[0] * by.x, sums.low[1] * by.y, sums.low[2] * by.z, sums.low[3] * by.w),
    mat4x4f(sums.high[0] * by.x, sums.high[1] * by.y, sums.high[2] * by.z, sums.high[3] * by.w),
  );
}

// Adds a unit of four values with the weights of a row.
fn add_values(sums: Sums, values: Four, at: u32) -> Sums {
  let one = add_value(sums, values.a, room[at]);
  let two = add_value(one, values.b, room[at + 4u]);
  return add_value(add_value(two, values.c, room[at + 8u]), values.d, room[at + 12u]);
}

fn add_value(sums: Sums, unit: vec4u, weights: vec4f) -> Sums {
  return Sums(add_outer(sums.low, quad_of(unit, 0u), weights), add_outer(sums.high, quad_of(unit, 1u), weights));
}

fn add_outer(sums: mat4x4f, value: vec4f, weights: vec4f) -> mat4x4f {
  return mat4x4f(
    fma(vec4f(weights.x), value, sums[0]), fma(vec4f(weights.y), value, sums[1]),
    fma(vec4f(weights.z), value, sums[2]), fma(vec4f(weights.w), value, sums[3]),
  );
}

fn best_of(row: u32) -> vec4f {
  var best = vec4f(LOWEST);
  for (var p = 0u; p < PARTS; p++) { best = max(best, tops[4u * p + row]); }
  return best;
}

fn all_of(row: u32) -> vec4f {
  let best = best_of(row);
  var all = vec4f();
  for (var p = 0u; p < PARTS; p++) { all += totals[4u * p + row] * exp(tops[4u * p + row] - best); }
  return all;
}

// What the sums of a part count in those of all. Where nothing was seen there is nothing.
fn share_of(part: u32, row: u32) -> vec4f {
  let all = all_of(row);
  return select(vec4f(), exp(tops[4u * part + row] - best_of(row)) / all, all > vec4f());
}

fn join_sums(sums: Sums, row: u32, lane: u32, begins: bool) {
  let at = row * QUADS + lane % UNITS * 2u;
  join_block(at, sums.low[0], sums.high[0], begins);
  join_block(at + 4u * QUADS, sums.low[1], sums.high[1], begins);
  join_block(at + 8u * QUADS, sums.low[2], sums.high[2], begins);
  join_block(at + 12u * QUADS, sums.low[3], sums.high[3], begins);
}

fn join_block(at: u32, low: vec4f, high: vec4f, begins: bool) {
  room[at] = select(room[at], vec4f(), begins) + low;
  room[at + 1u] = select(room[at + 1u], vec4f(), begins) + high;
}

fn joint_at(i: u32) -> vec4f { return room[i]; }
fn set_joint(i: u32, sum: vec4f) { room[i] = sum; }
`;
