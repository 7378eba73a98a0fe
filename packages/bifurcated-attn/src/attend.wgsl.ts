/**
 * Bindings and task list shared by all attention kernels, whose \`attend\` a workgroup of WIDTH calls for each of its tasks. A
 * task is a part of a stretch's keys for some of its query vectors.
 */
export const attendHead = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;           // [1 + rows]: token, position, leaf, sequence
@group(0) @binding(1) var<storage, read> plan: array<u32>;
@group(0) @binding(2) var<storage, read> q: array<vec4f>;               // [rows, Q_STRIDE / 4], query heads first
@group(0) @binding(4) var<storage, read_write> partial: array<vec4f>;   // [slots, HEADS, HEAD_DIM / 4]
@group(0) @binding(5) var<storage, read_write> log_sums: array<f32>;    // [slots, HEADS]

const QUADS = HEAD_DIM / 4u;
const LOWEST = -1e30;
const SHARE = HEADS / KV_HEADS;                                          // query heads per key/value head

struct Task { record: u32, split: u32, first: u32, count: u32 }

@compute @workgroup_size(WIDTH)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  if (batch[0].x == 0u) { return; }
  let directory = plan[4u * KIND + 1u] + 2u * SLAB;
  let first = plan[directory];
  let count = plan[directory + 1u];
  const tasks = 1u - HEAD_AXIS;
  for (var t = group[tasks]; t < count; t += groups[tasks]) { attend(task_at(first + 2u * t), group[HEAD_AXIS], lane); }
}

// Query vectors of a stretch are numbered row by row, SHARE to a row.
fn task_at(index: u32) -> Task {
  let a = plan[index];
  let b = plan[index + 1u];
  return Task(a & 0xffffu, b & 0xffffu, a >> 16u, b >> 16u);
}

struct Span { begin: u32, end: u32 }

// Keys of a part, relative to the segment's start: parts begin at multiples of the chunk, so that which keys are
// added up together does not depend on how far a window has moved.
fn span_of(s: Segment, split: u32) -> Span {
  let part = ((s.start - s.base) / s.chunk + split) * s.chunk;
  return Span(max(part, s.start - s.base), min(part + s.chunk, s.end - s.base));
}
`;

/** The cache, as kernels read it that were not made to write it, and as others do. */
export const kvRead = /* wgsl */ `
@group(0) @binding(3) var<storage, read> kv: array<KvUnit>;             // [pages, 2, KV_HEADS, PAGE, HEAD_DIM]
`;
export const kvReadWrite = /* wgsl */ `
@group(0) @binding(3) var<storage, read_write> kv: array<KvUnit>;       // [pages, 2, KV_HEADS, PAGE, HEAD_DIM]
`;

/** What kernels for GPUs share, where a workgroup attends for a task. */
export const attendTasks = /* wgsl */ `
// The part's keys that rows from position lowest to highest see.
fn seen_by(task: Task, s: Segment, lowest: u32, highest: u32) -> Span {
  var span = span_of(s, task.split);
  span.end = min(span.end, highest + 1u - min(highest + 1u, s.base));
  if (WINDOW > 0u && lowest + 1u > WINDOW + s.base) { span.begin = max(span.begin, lowest + 1u - WINDOW - s.base); }
  return span;
}

fn page_of(s: Segment, key: u32) -> u32 { return plan[s.pages + key / PAGE % s.modulus]; }

fn slot_of(task: Task, s: Segment, v: u32, kv_head: u32) -> u32 {
  let vector = task.first + v;
  return (s.partials + task.split * s.rows + vector / SHARE) * HEADS + kv_head * SHARE + vector % SHARE;
}
`;

/** Of tasks whose vectors no subgroup holds together. */
export const seenSpan = /* wgsl */ `
// The part's keys that any of the task's rows sees.
fn seen_span(task: Task, s: Segment) -> Span {
  var lowest = 0xffffffffu;
  var highest = 0u;
  for (var r = task.first / SHARE; r <= (task.first + task.count - 1u) / SHARE; r++) {
    let position = batch[1u + s.first_row + r].y;
    lowest = min(lowest, position);
    highest = max(highest, position);
  }
  return seen_by(task, s, lowest, highest);
}
`;

/** Who attends for a task, where a kernel has but one way, and where tasks of few vectors have their own. */
export const attendByMany = /* wgsl */ `
fn attend(task: Task, kv_head: u32, lane: u32) { attend_many(task, kv_head, lane); }
`;
export const attendByCount = /* wgsl */ `
const_assert JOINED <= JOINT_ROOM;
fn attend(task: Task, kv_head: u32, lane: u32) {
  if (task.count <= FEW) { attend_few(task, kv_head, lane); } else { attend_many(task, kv_head, lane); }
}
`;

/** For CPU drivers: an invocation attends for one query vector, four keys at a time, without barriers. */
export const attendThread = /* wgsl */ `
const WIDTH = VECTORS;

fn attend(task: Task, kv_head: u32, lane: u32) {
  if (lane >= task.count) { return; }
  let vector = task.first + lane;
  let s = segment_at(task.record);
  let row = s.first_row + vector / SHARE;
  let head = kv_head * SHARE + vector % SHARE;
  let slot = (s.partials + task.split * s.rows + vector / SHARE) * HEADS + head;
  let position = batch[1u + row].y;
  var span = span_of(s, task.split);
  span.end = min(span.end, position + 1u - min(position + 1u, s.base));
  if (WINDOW > 0u && position + 1u > WINDOW + s.base) { span.begin = max(span.begin, position + 1u - WINDOW - s.base); }
  if (span.begin >= span.end) { log_sums[slot] = LOWEST; return; }

  // QUADS from memory: where Mesa sees the bounds it unrolls these loops, and then compiles for a minute.
  let quads = plan[4u * KIND + 2u];
  var query: array<vec4f, QUADS>;
  var sum: array<vec4f, QUADS>;
  for (var d = 0u; d < quads; d++) { query[d] = q[row * (Q_STRIDE / 4u) + head * QUADS + d] * SCALE; }
  var top = LOWEST;
  var total = 0.0;
  for (var k = span.begin & ~3u; k < span.end; k += 4u) {
    // Outside of the span another key is read in place: what lies there may be anything, and 0 · NaN is NaN.
    let wanted = vec4u(k, k + 1u, k + 2u, k + 3u);
    let read = clamp(wanted, vec4u(span.begin), vec4u(span.end - 1u));
    let offset = (read - k) * QUADS;
    let keys = offset + kv_quad(s, k, 0u, kv_head);
    var score = vec4f();
    for (var d = 0u; d < quads; d++) {
      let v = query[d];
      score += vec4f(
        dot(v, vec4f(kv[keys.x + d])), dot(v, vec4f(kv[keys.y + d])),
        dot(v, vec4f(kv[keys.z + d])), dot(v, vec4f(kv[keys.w + d])),
      );
    }
    score = select(vec4f(LOWEST), score, wanted == read);
    let best = max(max(score.x, score.y), max(score.z, score.w));
    if (best > top) {
      let shrink = exp(top - best);
      for (var d = 0u; d < quads; d++) { sum[d] *= shrink; }
      total *= shrink;
      top = best;
    }
    let weight = exp(score - top);
    total += weight.x + weight.y + weight.z + weight.w;
    let values = offset + kv_quad(s, k, 1u, kv_head);
    for (var d = 0u; d < quads; d++) {
      sum[d] += weight.x * vec4f(kv[values.x + d]) + weight.y * vec4f(kv[values.y + d])
        + weight.z * vec4f(kv[values.z + d]) + weight.w * vec4f(kv[values.w + d]);
    }
  }
  log_sums[slot] = top + log(total);
  for (var d = 0u; d < quads; d++) { partial[slot * QUADS + d] = sum[d] / total; }
}
`;

/**
 * Joins a row's partial results by log-sum-exp: o = Σ exp(lseᵢ − M) oᵢ / Σ exp(lseᵢ − M), in f32, walking from
 * the row's leaf to the root, AT_ONCE parts at a time. Exact up to rounding: it is one softmax over the joined keys.
 */
export const mergeBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;            // [1 + rows]: token, position, leaf, sequence
@group(0) @binding(1) var<storage, read> plan: array<u32>;
@group(0) @binding(2) var<storage, read> partial: array<vec4f>;          // [slots, HEADS, HEAD_DIM / 4]
@group(0) @binding(3) var<storage, read> log_sums: array<f32>;           // [slots, HEADS]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<Y>>;        // [rows, HEADS, HEAD_DIM / 4]

const QUADS = HEAD_DIM / 4u;
const LOWEST = -1e30;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= HEADS * QUADS || id.y >= batch[0].x) { return; }
  let head = id.x / QUADS;
  var top = LOWEST;
  var total = 0.0;
  var sum = vec4f();
  for (var record = batch[1u + id.y].z + 1u; record > 0u;) {
    let s = segment_at(record - 1u);
    for (var split = 0u; split < s.splits; split += AT_ONCE) {
      var logs: array<f32, AT_ONCE>;
      var parts: array<vec4f, AT_ONCE>;
      var best = top;
      for (var i = 0u; i < AT_ONCE; i++) {
        let slot = (s.partials + min(split + i, s.splits - 1u) * s.rows + id.y - s.first_row) * HEADS + head;
        logs[i] = select(LOWEST, log_sums[slot], split + i < s.splits);
        parts[i] = partial[slot * QUADS + id.x % QUADS];
      }
      for (var i = 0u; i < AT_ONCE; i++) { best = max(best, logs[i]); }
      let shrink = exp(top - best);
      sum *= shrink;
      total *= shrink;
      for (var i = 0u; i < AT_ONCE; i++) {
        // Where nothing was seen, nothing was written: what is there may be NaN.
        if (logs[i] > LOWEST) {
          let weight = exp(logs[i] - best);
          sum += weight * parts[i];
          total += weight;
        }
      }
      top = best;
    }
    record = s.parent;
  }
  y[id.y * HEADS * QUADS + id.x] = narrow4(sum / total);
}
`;
