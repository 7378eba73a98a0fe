/**
 * For tasks of up to FEW query vectors, which would leave a tile of them mostly empty: a team of invocations shares a key,
 * and every team goes through keys of its own with a softmax of its own, four keys at a time. There is no barrier before
 * the end, where the teams' sums are joined: within JOIN invocations, which a subgroup has at least, by shuffles, beyond
 * them through workgroup memory, JOINED sums that \`joint_at\` and \`set_joint\` reach.
 */
export const attendFew = /* wgsl */ `
const TEAM = select(16u, 8u, UNITS <= 8u);
const TEAMS = WIDTH / TEAM;
const OWN = (UNITS + TEAM - 1u) / TEAM;                            // units of a key that an invocation has
const OWN_QUADS = OWN * UNIT_QUADS;
const TURN = 4u * TEAMS;                                           // keys of a round
const JOINTS = WIDTH / JOIN;
const JOINED = FEW * JOINTS * QUADS;

var<workgroup> joint_top: array<f32, FEW * JOINTS>;
var<workgroup> joint_total: array<f32, FEW * JOINTS>;
var<workgroup> joint_weight: array<f32, FEW * JOINTS>;

fn attend_few(task: Task, kv_head: u32, lane: u32) {
  let s = segment_at(task.record);
  let team = lane / TEAM;
  var query: array<vec4f, FEW * OWN_QUADS>;
  var sums: array<vec4f, FEW * OWN_QUADS>;
  var positions: array<u32, FEW>;
  var top: array<f32, FEW>;
  var total: array<f32, FEW>;
  var lowest = 0xffffffffu;
  var highest = 0u;
  for (var v = 0u; v < FEW; v++) {
    let vector = task.first + min(v, task.count - 1u);
    let row = s.first_row + vector / SHARE;
    let start = row * (Q_STRIDE / 4u) + (kv_head * SHARE + vector % SHARE) * QUADS;
    for (var i = 0u; i < OWN_QUADS; i++) {
      query[v * OWN_QUADS + i] = select(vec4f(), q[start + min(own_quad(lane, i), QUADS - 1u)] * SCALE, own_quad(lane, i) < QUADS);
    }
    positions[v] = batch[1u + row].y;
    top[v] = LOWEST;
    lowest = min(lowest, positions[v]);
    highest = max(highest, positions[v]);
  }
  let span = seen_by(task, s, lowest, highest);
  for (var k = span.begin / TURN * TURN; k < span.end; k += TURN) {
    let wanted = k + team + vec4u(0u, TEAMS, 2u * TEAMS, 3u * TEAMS);
    // Outside of the span another key is read: what lies there may be anything, and 0 · NaN is NaN.
    let read = clamp(wanted, vec4u(span.begin), max(vec4u(span.begin), vec4u(span.end - 1u)));
    var keys: array<KvUnit, 4u * OWN>;
    var values: array<KvUnit, 4u * OWN>;
    for (var j = 0u; j < 4u; j++) {
      let at = ((page_of(s, read[j]) * 2u * KV_HEADS + kv_head) * PAGE + read[j] % PAGE) * UNITS;
      for (var i = 0u; i < OWN; i++) {
        let unit = at + min(lane % TEAM + TEAM * i, UNITS - 1u);
        keys[j * OWN + i] = kv[unit];
        values[j * OWN + i] = kv[unit + VALUES];
      }
    }
    for (var v = 0u; v < FEW; v++) {
      if (v < task.count) {
        var score = vec4f();
        for (var j = 0u; j < 4u; j++) {
          for (var i = 0u; i < OWN_QUADS; i++) {
            score[j] += dot(query[v * OWN_QUADS + i], quad_of(keys[j * OWN + i / UNIT_QUADS], i % UNIT_QUADS));
          }
        }
        for (var mask = 1u; mask < TEAM; mask *= 2u) { score += across(score, mask); }
        let at = wanted + s.base;
        var visible = (wanted >= vec4u(span.begin)) & (wanted < vec4u(span.end)) & (at <= vec4u(positions[v]));
        if (WINDOW > 0u) { visible &= at + WINDOW > vec4u(positions[v]); }
        score = select(vec4f(LOWEST), score, visible);
        let best = max(max(max(score.x, score.y), max(score.z, score.w)), top[v]);
        let weight = select(vec4f(), exp(score - best), visible);
        let shrink = exp(top[v] - best);
        top[v] = best;
        total[v] = total[v] * shrink + weight.x + weight.y + weight.z + weight.w;
        for (var i = 0u; i < OWN_QUADS; i++) {
          var sum = sums[v * OWN_QUADS + i] * shrink;
          for (var j = 0u; j < 4u; j++) { sum += weight[j] * quad_of(values[j * OWN + i / UNIT_QUADS], i % UNIT_QUADS); }
          sums[v * OWN_QUADS + i] = sum;
        }
      }
    }
  }
  workgroupBarrier();
  for (var v = 0u; v < FEW; v++) {
    if (v < task.count) {
      // No barrier in here, or what the loop indexes would live in memory.
      var best = top[v];
      for (var mask = TEAM; mask < JOIN; mask *= 2u) { best = max(best, subgroupShuffleXor(best, mask)); }
      let scale = exp(top[v] - best);
      var all = total[v] * scale;
      for (var mask = TEAM; mask < JOIN; mask *= 2u) { all += subgroupShuffleXor(all, mask); }
      let joint = v * JOINTS + lane / JOIN;
      for (var i = 0u; i < OWN_QUADS; i++) {
        var sum = sums[v * OWN_QUADS + i] * scale;
        for (var mask = TEAM; mask < JOIN; mask *= 2u) { sum += across(sum, mask); }
        if (lane % JOIN < TEAM && own_quad(lane, i) < QUADS) { set_joint(joint * QUADS + own_quad(lane, i), sum); }
      }
      if (lane % JOIN == 0u) {
        joint_top[joint] = best;
        joint_total[joint] = all;
      }
    }
  }
  workgroupBarrier();
  if (lane < task.count) {
    let log_sum = join(lane * JOINTS);
    log_sums[slot_of(task, s, lane, kv_head)] = log_sum;
  }
  workgroupBarrier();
  for (var i = lane; i < task.count * QUADS; i += WIDTH) {
    let first = i / QUADS * JOINTS;
    var sum = vec4f();
    for (var j = first; j < first + JOINTS; j++) { sum += joint_weight[j] * joint_at(j * QUADS + i % QUADS); }
    partial[slot_of(task, s, i / QUADS, kv_head) * QUADS + i % QUADS] = sum;
  }
}

// Makes the weights of a vector's sums. Returns the log of its sum of exponentials.
fn join(first: u32) -> f32 {
  var best = LOWEST;
  for (var j = first; j < first + JOINTS; j++) { best = max(best, joint_top[j]); }
  var all = 0.0;
  for (var j = first; j < first + JOINTS; j++) {
    joint_weight[j] = exp(joint_top[j] - best);
    all += joint_total[j] * joint_weight[j];
  }
  if (all == 0.0) { return LOWEST; }
  for (var j = first; j < first + JOINTS; j++) { joint_weight[j] /= all; }
  return best + log(all);
}

// Quads of a head that an invocation has: those of its units.
fn own_quad(lane: u32, i: u32) -> u32 { return (lane % TEAM + TEAM * (i / UNIT_QUADS)) * UNIT_QUADS + i % UNIT_QUADS; }

fn across(v: vec4f, mask: u32) -> vec4f { return subgroupShuffleXor(v, mask); }
`;

/** A kernel of nothing else. */
export const onlyFew = /* wgsl */ `
const WIDTH = 128u;
var<workgroup> joint_sum: array<vec4f, JOINED>;
fn joint_at(i: u32) -> vec4f { return joint_sum[i]; }
fn set_joint(i: u32, sum: vec4f) { joint_sum[i] = sum; }

fn attend(task: Task, kv_head: u32, lane: u32) { attend_few(task, kv_head, lane); }
`;

/** Units of the cache: eight values as f16 bits, or four of any type. */
export const halfUnits = /* wgsl */ `
const UNITS = HEAD_DIM / 8u;
const UNIT_QUADS = 2u;
const VALUES = KV_HEADS * PAGE * UNITS;                            // from a key to its value

fn quad_of(unit: vec4u, i: u32) -> vec4f {
  let bits = select(unit.xy, unit.zw, i == 1u);
  return vec4f(unpack2x16float(bits.x), unpack2x16float(bits.y));
}
`;
export const quadUnits = /* wgsl */ `
const UNITS = QUADS;
const UNIT_QUADS = 1u;
const VALUES = KV_HEADS * PAGE * UNITS;

fn quad_of(unit: KvUnit, i: u32) -> vec4f { return vec4f(unit); }
`;
