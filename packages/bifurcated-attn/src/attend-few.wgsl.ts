/**
 * Part of \`attendMatrix\`, for tasks of up to FEW query vectors, which would leave a matrix mostly empty: TEAM invocations
 * share a key, 16 bytes each, and every team goes through keys of its own with a softmax of its own. There is no barrier
 * before the end, where the teams' sums are joined through workgroup memory.
 */
export const attendFew = /* wgsl */ `
const TEAM = select(select(32u, 16u, UNITS <= 16u), 8u, UNITS <= 8u);
const TEAMS = WIDTH / TEAM;
const TURN = 4u * TEAMS;                                           // four keys of each team are on their way at once
const_assert FEW * SUBGROUPS * HEAD_DIM <= VECTORS * SCORE_STRIDE;

var<workgroup> joint_top: array<f32, FEW * SUBGROUPS>;
var<workgroup> joint_total: array<f32, FEW * SUBGROUPS>;

fn attend_few(task: Task, s: Segment, kv_head: u32, lane: u32) {
  let team = lane / TEAM;
  let unit = min(lane % TEAM, UNITS - 1u);
  var query: array<vec4f, 2u * FEW>;
  var sums: array<vec4f, 2u * FEW>;
  var position: array<u32, FEW>;
  var top: array<f32, FEW>;
  var total: array<f32, FEW>;
  var lowest = 0xffffffffu;
  var highest = 0u;
  for (var v = 0u; v < FEW; v++) {
    let vector = task.first + min(v, task.count - 1u);
    let row = s.first_row + vector / SHARE;
    let start = row * (Q_STRIDE / 4u) + (kv_head * SHARE + vector % SHARE) * QUADS + 2u * unit;
    let own = lane % TEAM == unit;                                 // an invocation without a unit counts for nothing
    query[2u * v] = select(vec4f(), q[start] * SCALE, own);
    query[2u * v + 1u] = select(vec4f(), q[start + 1u] * SCALE, own);
    position[v] = batch[1u + row].y;
    top[v] = LOWEST;
    lowest = min(lowest, position[v]);
    highest = max(highest, position[v]);
  }
  let span = seen_by(task, s, lowest, highest);
  for (var k = span.begin / TURN * TURN; k < span.end; k += TURN) {
    var keys: array<vec4u, 4>;
    var values: array<vec4u, 4>;
    let wanted = k + team + vec4u(0u, TEAMS, 2u * TEAMS, 3u * TEAMS);
    // Outside of the span another key is read: what lies there may be anything, and 0 · NaN is NaN.
    let read = clamp(wanted, vec4u(span.begin), vec4u(span.end - 1u));
    for (var j = 0u; j < 4u; j++) {
      let at = ((page_of(s, read[j]) * 2u * KV_HEADS + kv_head) * PAGE + read[j] % PAGE) * UNITS + unit;
      keys[j] = kv[at];
      values[j] = kv[at + VALUES];
    }
    for (var v = 0u; v < FEW; v++) {
      if (v < task.count) {
        var score: vec4f;
        for (var j = 0u; j < 4u; j++) {
          score[j] = dot(query[2u * v], low(keys[j])) + dot(query[2u * v + 1u], high(keys[j]));
        }
        for (var mask = 1u; mask < TEAM; mask *= 2u) { score += across(score, mask); }
        let at = wanted + s.base;
        var visible = (wanted == read) & (at <= vec4u(position[v]));
        if (WINDOW > 0u) { visible &= at + WINDOW > vec4u(position[v]); }
        score = select(vec4f(LOWEST), score, visible);
        let best = max(max(max(score.x, score.y), max(score.z, score.w)), top[v]);
        let weight = select(vec4f(), exp(score - best), visible);
        let shrink = exp(top[v] - best);
        top[v] = best;
        total[v] = total[v] * shrink + weight.x + weight.y + weight.z + weight.w;
        var a = sums[2u * v] * shrink;
        var b = sums[2u * v + 1u] * shrink;
        for (var j = 0u; j < 4u; j++) {
          a += weight[j] * low(values[j]);
          b += weight[j] * high(values[j]);
        }
        sums[2u * v] = a;
        sums[2u * v + 1u] = b;
      }
    }
  }
  workgroupBarrier();
  for (var v = 0u; v < FEW; v++) {
    if (v < task.count) {
      // First the teams of a subgroup; no barrier in here, or what the loop indexes would live in memory.
      var best = top[v];
      for (var mask = TEAM; mask < 32u; mask *= 2u) { best = max(best, subgroupShuffleXor(best, mask)); }
      let scale = exp(top[v] - best);
      var sum = total[v] * scale;
      var a = sums[2u * v] * scale;
      var b = sums[2u * v + 1u] * scale;
      for (var mask = TEAM; mask < 32u; mask *= 2u) {
        sum += subgroupShuffleXor(sum, mask);
        a += across(a, mask);
        b += across(b, mask);
      }
      let joint = v * SUBGROUPS + lane / 32u;
      if (lane % 32u == unit) { put_joint(joint, unit, a, b); }
      if (lane % 32u == 0u) {
        joint_top[joint] = best;
        joint_total[joint] = sum;
      }
    }
  }
  workgroupBarrier();
  for (var i = lane; i < task.count * QUADS; i += WIDTH) {
    let v = i / QUADS;
    let best = best_of(v);
    var sum = vec4f();
    for (var j = v * SUBGROUPS; j < (v + 1u) * SUBGROUPS; j++) { sum += joint_quad(j, i % QUADS) * exp(joint_top[j] - best); }
    let all = total_of(v, best);
    if (all > 0.0) { partial[slot_of(task, s, v, kv_head) * QUADS + i % QUADS] = sum / all; }
  }
  if (lane < task.count) {
    let best = best_of(lane);
    let all = total_of(lane, best);
    log_sums[slot_of(task, s, lane, kv_head)] = select(LOWEST, best + log(all), all > 0.0);
  }
}

fn best_of(v: u32) -> f32 {
  var best = LOWEST;
  for (var j = v * SUBGROUPS; j < (v + 1u) * SUBGROUPS; j++) { best = max(best, joint_top[j]); }
  return best;
}

fn total_of(v: u32, best: f32) -> f32 {
  var sum = 0.0;
  for (var j = v * SUBGROUPS; j < (v + 1u) * SUBGROUPS; j++) { sum += joint_total[j] * exp(joint_top[j] - best); }
  return sum;
}

fn across(v: vec4f, mask: u32) -> vec4f { return subgroupShuffleXor(v, mask); }
fn low(unit: vec4u) -> vec4f { return vec4f(unpack2x16float(unit.x), unpack2x16float(unit.y)); }
fn high(unit: vec4u) -> vec4f { return vec4f(unpack2x16float(unit.z), unpack2x16float(unit.w)); }

// A subgroup's sums for a vector, in workgroup memory.
fn put_joint(joint: u32, unit: u32, a: vec4f, b: vec4f) {
  let at = joint * HEAD_DIM + 8u * unit;
  for (var i = 0u; i < 4u; i++) {
    scores[at + i] = a[i];
    scores[at + 4u + i] = b[i];
  }
}

fn joint_quad(joint: u32, quad: u32) -> vec4f {
  let at = joint * HEAD_DIM + 4u * quad;
  return vec4f(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
}
`;
