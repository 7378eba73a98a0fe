/**
 * For GPUs: a workgroup attends for a tile of VECTORS query vectors, KEYS keys a round, which go through workgroup memory
 * once for all of them, so that reads of the cache are whole lines. Invocations hold one key × several vectors while
 * scoring, one quad of columns × several vectors while adding up.
 */
export const attendTile = /* wgsl */ `
const WIDTH = 128u;
const GROUPS = WIDTH / KEYS;                                       // invocations that share a key
const SCORED = (VECTORS + GROUPS - 1u) / GROUPS;                   // vectors an invocation scores
const COLUMN_GROUPS = WIDTH / QUADS;
const SUMMED = (VECTORS + COLUMN_GROUPS - 1u) / COLUMN_GROUPS;
const STRIDE = QUADS + 1u;                                         // of a key in the tile; odd: no bank conflicts
const STEP = select(1u, 4u, QUADS % 4u == 0u);
var<workgroup> query: array<vec4f, VECTORS * QUADS>;
var<workgroup> tile: array<vec4<KV>, KEYS * STRIDE>;               // keys and values in turns
var<workgroup> scores: array<f32, VECTORS * KEYS>;
var<workgroup> top: array<f32, VECTORS>;
var<workgroup> total: array<f32, VECTORS>;
var<workgroup> shrink: array<f32, VECTORS>;

fn attend_many(task: Task, kv_head: u32, lane: u32) {
  let s = segment_at(task.record);
  workgroupBarrier();
  for (var i = lane; i < task.count * QUADS; i += WIDTH) {
    let vector = task.first + i / QUADS;
    let head = kv_head * SHARE + vector % SHARE;
    query[i] = q[(s.first_row + vector / SHARE) * (Q_STRIDE / 4u) + head * QUADS + i % QUADS] * SCALE;
  }
  if (lane < VECTORS) { top[lane] = LOWEST; total[lane] = 0.0; }
  var sums: array<vec4f, SUMMED>;
  let span = seen_span(task, s);
  // QUADS from memory: where Mesa sees the bounds it unrolls these loops, and then compiles for minutes.
  let quads = plan[4u * KIND + 2u];
  for (var k = span.begin & ~(KEYS - 1u); k < span.end; k += KEYS) {
    workgroupBarrier();
    fill(s, span, k, kv_quads(0u, kv_head), KEYS * quads, lane);
    workgroupBarrier();
    score(task, s, span, k, quads, lane);
    workgroupBarrier();
    fill(s, span, k, kv_quads(1u, kv_head), KEYS * quads, lane);
    if (lane < task.count) { soften(lane); }
    workgroupBarrier();
    let group = lane / QUADS;
    if (group < COLUMN_GROUPS) {
      for (var i = 0u; i < SUMMED; i++) { sums[i] *= shrink[min(group + i * COLUMN_GROUPS, VECTORS - 1u)]; }
      for (var j = 0u; j < min(KEYS, span.end - k); j++) {
        let value = vec4f(tile[j * STRIDE + lane % QUADS]);
        for (var i = 0u; i < SUMMED; i++) {
          sums[i] += scores[min(group + i * COLUMN_GROUPS, VECTORS - 1u) * KEYS + j] * value;
        }
      }
    }
  }
  workgroupBarrier();
  let group = lane / QUADS;
  for (var i = 0u; i < SUMMED; i++) {
    let v = group + i * COLUMN_GROUPS;
    if (group < COLUMN_GROUPS && v < task.count && total[v] > 0.0) {
      partial[slot_of(task, s, v, kv_head) * QUADS + lane % QUADS] = sums[i] / total[v];
    }
  }
  if (lane < task.count) {
    log_sums[slot_of(task, s, lane, kv_head)] = select(LOWEST, top[lane] + log(total[lane]), total[lane] > 0.0);
  }
}

// Quads from a page's begin to keys (which = 0) or values of a head.
fn kv_quads(which: u32, kv_head: u32) -> u32 { return (which * KV_HEADS + kv_head) * PAGE * QUADS; }

// Brings keys or values of a round. Outside of the span there may be anything, and 0 · NaN is NaN: zeros instead.
fn fill(s: Segment, span: Span, k: u32, inside: u32, units: u32, lane: u32) {
  for (var unit = lane; unit < units; unit += WIDTH) {
    let key = k + unit / QUADS;
    let read = clamp(key, span.begin, span.end - 1u);
    let value = kv[page_of(s, read) * 2u * KV_HEADS * PAGE * QUADS + inside + read % PAGE * QUADS + unit % QUADS];
    tile[unit / QUADS * STRIDE + unit % QUADS] = select(vec4<KV>(), value, key == read);
  }
}

fn score(task: Task, s: Segment, span: Span, k: u32, quads: u32, lane: u32) {
  let j = lane % KEYS;
  let key = k + j;
  var dots: array<f32, SCORED>;
  if (lane / KEYS < task.count) {
    for (var d = 0u; d < quads; d += STEP) {
      for (var u = 0u; u < STEP; u++) {
        let v = vec4f(tile[j * STRIDE + d + u]);
        for (var i = 0u; i < SCORED; i++) {
          dots[i] += dot(v, query[min(lane / KEYS + GROUPS * i, VECTORS - 1u) * QUADS + d + u]);
        }
      }
    }
  }
  for (var i = 0u; i < SCORED; i++) {
    let v = lane / KEYS + GROUPS * i;
    if (v < VECTORS) {
      let position = batch[1u + s.first_row + min(task.first + v, task.first + task.count - 1u) / SHARE].y;
      let at = key + s.base;
      let seen = key >= span.begin && key < span.end && at <= position && (WINDOW == 0u || at + WINDOW > position);
      scores[v * KEYS + j] = select(LOWEST, dots[i], seen && v < task.count);
    }
  }
}

// One step of the online softmax for vector v: scores become weights.
fn soften(v: u32) {
  var best = top[v];
  for (var j = 0u; j < KEYS; j++) { best = max(best, scores[v * KEYS + j]); }
  shrink[v] = exp(top[v] - best);
  var sum = total[v] * shrink[v];
  for (var j = 0u; j < KEYS; j++) {
    let s = scores[v * KEYS + j];
    let weight = select(exp(s - best), 0.0, s <= LOWEST);
    scores[v * KEYS + j] = weight;
    sum += weight;
  }
  top[v] = best;
  total[v] = sum;
}

const JOINT_ROOM = VECTORS * QUADS;
fn joint_at(i: u32) -> vec4f { return query[i]; }
fn set_joint(i: u32, sum: vec4f) { query[i] = sum; }
`;
