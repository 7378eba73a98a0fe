/**
 * The running samples of a round, in the order of the attention plan: \`slots[0]\` is (samples, rows of each, 0, 0),
 * then (leaf, sequence, 0, 0) a sample. Rows r · s … r · s + r − 1 of a step belong to sample s.
 */

/** Empties the places after each pending token, one guess short of a sample's rows; an invocation a sample. */
export const clearBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> slots: array<vec4u>;
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read> states: array<State>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= slots[0].x) { return; }
  let q = slots[1u + id.x].y;
  let s = sequences[q];
  let position = states[q].position;
  for (var p = position + 1u; p < min(position + slots[0].y, s.end); p++) { history[history_index(s, p)] = NONE; }
}
`;

/**
 * Writes the rows of a step, one workgroup: each sample's pending token and the guesses after it; for a draft model
 * (BEHIND) the pending token and those before it that it has not stored. Rows past either end repeat the last or first
 * one: they write again what it wrote. So do the rows of samples that have stopped; when all have, no rows are left.
 */
export const layOutRowsBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> slots: array<vec4u>;
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read> states: array<State>;
@group(0) @binding(3) var<storage, read> history: array<u32>;
@group(0) @binding(4) var<storage, read_write> batch: array<vec4u>;      // [1 + rows]: token, position, leaf, sequence

var<workgroup> running: atomic<u32>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
  let rows = slots[0].y;
  for (var r = lane; r < slots[0].x * rows; r += 256u) {
    let slot = slots[1u + r / rows];
    let s = sequences[slot.y];
    let state = states[slot.y];
    var position = min(state.position + r % rows, s.end - 1u);
    if (BEHIND == 1u) { position = max(state.position + r % rows + 1u, state.stored + rows) - rows; }
    var word = history[history_index(s, position)];
    if (word == NONE) { word = history[history_index(s, state.position)]; }
    batch[1u + r] = vec4u(word & TOKEN, position, slot.x, slot.y);
    if (state.finished == 0u) { atomicOr(&running, 1u); }
  }
  workgroupBarrier();
  if (lane == 0u) { batch[0] = vec4u(select(0u, slots[0].x * rows, atomicLoad(&running) == 1u), rows, 0u, 0u); }
}
`;

/**
 * Keeps guesses while they equal what was drawn in their place, then takes the next draw; an invocation a sample.
 * results: token, log-probability, status, origin of the guess for this place + 256 where it was kept.
 */
export const acceptBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> slots: array<vec4u>;
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read_write> states: array<State>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;
@group(0) @binding(4) var<storage, read> picks: array<vec4u>;            // [rows]: token, log-probability
@group(0) @binding(5) var<storage, read> stops: array<u32>;              // number, then token ids
@group(0) @binding(6) var<storage, read_write> results: array<vec4u>;    // [rows]

fn is_stop(token: u32) -> bool {
  for (var i = 0u; i < stops[0]; i++) {
    if (stops[1u + i] == token) { return true; }
  }
  return false;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= slots[0].x) { return; }
  let q = slots[1u + id.x].y;
  let rows = slots[0].y;
  let s = sequences[q];
  var state = states[q];
  let pending = state.position;
  var going = state.finished == 0u;
  for (var j = 0u; j < rows; j++) {
    let r = id.x * rows + j;
    let position = pending + 1u + j;
    var guess = NONE;
    if (j + 1u < rows && position < s.end) { guess = history[history_index(s, position)]; }
    let origin = select(guess >> 24u, 0u, guess == NONE);
    let token = picks[r].x;
    var result = vec4u(token, picks[r].y, IDLE, origin);
    if (going) {
      var status = select(RUNNING, LENGTH, position + 1u >= s.end);
      if (is_stop(token)) { status = STOP; }
      if (guess != NONE && (guess & TOKEN) >= VOCAB) { status = INVALID; result.x = guess & TOKEN; }
      let kept = guess != NONE && (guess & TOKEN) == token;
      going = kept && status == RUNNING;
      result = vec4u(result.x, picks[r].y, status, origin + select(0u, 256u, kept));
      history[history_index(s, position)] = token;
      state.position = position;
      state.finished = u32(status != RUNNING);
    }
    results[r] = result;
  }
  if (rows > 1u) { state.stored = min(max(state.stored, pending + rows - 1u), state.position); }
  states[q] = state;
}
`;
