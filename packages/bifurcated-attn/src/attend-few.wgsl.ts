/**
 * For tasks of up to FEW query vectors, which would leave a tile of them mostly empty: a team of invocations shares a key,
 * and every team goes through keys of its own with a softmax of its own, four keys at a time. There is no barrier before
 * the end, where the teams' sums are joined: within JOIN invocations, which a subgroup has at least, by shuffles, beyond
 * them through workgroup memory, JOINED sums that \`joint_at\` and \`set_joint\` reach.
 *
 * Loops over arrays count by one to a constant, and each index is one loop's: then Dawn sees that no bound can be exceeded, and
 * compilers unroll them and keep arrays in registers where bounds are checked as they do where they are not.
 */
export const attendFew = /* wgsl */ `
const TEAM_BITS = select(4u, 3u, UNITS <= 8u);
const TEAM = 1u << TEAM_BITS;
const TEAMS = WIDTH / TEAM;
const OWN = (UNITS + TEAM - 1u) / TEAM;                            // units of a key that an invocation has
const TURN = 4u * TEAMS;                                           // keys of a round
const JOIN_BITS = firstTrailingBit(JOIN);
const JOINTS = WIDTH / JOIN;
const JOINED = FEW * JOINTS * QUADS;
alias OwnQuads = array<array<vec4f, UNIT_QUADS>, OWN>;

var<workgroup> joint_top: array<f32, FEW * JOINTS>;
var<workgroup> joint_total: array<f32, FEW * JOINTS>;
var<workgroup> joint_weight: array<f32, FEW * JOINTS>;

fn attend_few(task: Task, kv_head: u32, lane: u32) {
  let s = segment_at(task.record);
  var query: array<OwnQuads, FEW>;
  var sums: array<OwnQuads, FEW>;
  var positions: array<u32, FEW>;
  var top: array<f32, FEW>;
  var total: array<f32, FEW>;
  var lowest = 0xffffffffu;
  var highest = 0u;
  for (var v = 0u; v < FEW; v++) {
    let vector = task.first + min(v, task.count - 1u);
    let row = s.first_row + vector / SHARE;
    let start = row * (Q_STRIDE / 4u) + (kv_head * SHARE + vector % SHARE) * QUADS;
    for (var u = 0u; u < OWN; u++) {
      for (var c = 0u; c < UNIT_QUADS; c++) {
        let quad = own_quad(lane, u, c);
        query[v][u][c] = select(vec4f(), q[start + min(quad, QUADS - 1u)] * SCALE, quad < QUADS);
      }
    }
    positions[v] = batch[1u + row].y;
    top[v] = LOWEST;
    lowest = min(lowest, positions[v]);
    highest = max(highest, positions[v]);
  }
  let span = seen_by(task, s, lowest, highest);
  for (var k = span.begin / TURN * TURN; k < span.end; k += TURN) {
    let wanted = k + lane / TEAM + vec4u(0u, TEAMS, 2u * TEAMS, 3u * TEAMS);
    // Outside of the span another key is read: what lies there may be anything, and 0 · NaN is NaN.
    let read = clamp(wanted, vec4u(span.begin), max(vec4u(span.begin), vec4u(span.end - 1u)));
    var keys: array<array<KvUnit, OWN>, 4>;
    var values: array<array<KvUnit, OWN>, 4>;
    for (var j = 0u; j < 4u; j++) {
      let at = ((page_of(s, read[j]) * 2u * KV_HEADS + kv_head) * PAGE + read[j] % PAGE) * UNITS;
      for (var u = 0u; u < OWN; u++) {
        let unit = at + min(lane % TEAM + TEAM * u, UNITS - 1u);
        keys[j][u] = kv[unit];
        values[j][u] = kv[unit + VALUES];
      }
    }
    for (var v = 0u; v < FEW; v++) {
      if (v < task.count) {
        var score = vec4f();
        for (var j = 0u; j < 4u; j++) {
          for (var u = 0u; u < OWN; u++) {
            for (var c = 0u; c < UNIT_QUADS; c++) { score[j] += dot(query[v][u][c], quad_of(keys[j][u], c)); }
          }
        }
        for (var bit = 0u; bit < TEAM_BITS; bit++) { score += across(score, 1u << bit); }
        let at = wanted + s.base;
        var visible = (wanted >= vec4u(span.begin)) & (wanted < vec4u(span.end)) & (at <= vec4u(positions[v]));
        if (WINDOW > 0u) { visible &= at + WINDOW > vec4u(positions[v]); }
        score = select(vec4f(LOWEST), score, visible);
        let best = max(max(max(score.x, score.y), max(score.z, score.w)), top[v]);
        let weight = select(vec4f(), exp(score - best), visible);
        let shrink = exp(top[v] - best);
        top[v] = best;
        total[v] = total[v] * shrink + weight.x + weight.y + weight.z + weight.w;
        for (var u = 0u; u < OWN; u++) {
          for (var c = 0u; c < UNIT_QUADS; c++) {
            var sum = sums[v][u][c] * shrink;
            for (var j = 0u; j < 4u; j++) { sum += weight[j] * quad_of(values[j][u], c); }
            sums[v][u][c] = sum;
          }
        }
      }
    }
  }
  workgroupBarrier();
  for (var v = 0u; v < FEW; v++) {
    if (v < task.count) {
      // No barrier in here, or what the loop indexes would live in memory.
      var best = top[v];
      for (var bit = TEAM_BITS; bit < JOIN_BITS; bit++) { best = max(best, subgroupShuffleXor(best, 1u << bit)); }
      let scale = exp(top[v] - best);
      var all = total[v] * scale;
      for (var bit = TEAM_BITS; bit < JOIN_BITS; bit++) { all += subgroupShuffleXor(all, 1u << bit); }
      let joint = v * JOINTS + lane / JOIN;
      for (var u = 0u; u < OWN; u++) {
        for (var c = 0u; c < UNIT_QUADS; c++) {
          var sum = sums[v][u][c] * scale;
          for (var bit = TEAM_BITS; bit < JOIN_BITS; bit++) { sum += across(sum, 1u << bit); }
          let quad = own_quad(lane, u, c);
          if (lane % JOIN < TEAM && quad < QUADS) { set_joint(joint * QUADS + quad, sum); }
        }
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

// Quad c of an invocation's unit u, of a head's.
fn own_quad(lane: u32, u: u32, c: u32) -> u32 { return (lane % TEAM + TEAM * u) * UNIT_QUADS + c; }

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
