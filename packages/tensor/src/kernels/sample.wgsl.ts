/**
 * How a sequence is sampled (16 words, written by \`encodeSequence\`), and where it stands (4 words). \`history\` holds
 * the prompt's tokens, then those of each sequence: a token id, and in the top 8 bits, for a guess, who made it.
 */
export const sequenceChunk = /* wgsl */ `
struct Sequence {
  seed: vec2u,          // seed + sample index, low and high word
  temperature: f32,     // 0: greedy
  top_k: u32,           // 0: off
  top_p: f32,           // 1: off
  min_p: f32,           // 0: off
  repetition: f32,      // 1: off
  presence: f32,        // 0: off
  frequency: f32,       // 0: off
  start: u32,           // position of the first generated token
  end: u32,             // position at which generation must have ended
  history: u32,         // where its own tokens are in the history: at this + position
  counts: u32,          // row of the token counts
  reserved0: u32,
  reserved1: u32,
  reserved2: u32,
}

struct State {
  position: u32,        // of the pending token: drawn, its keys and values not yet stored
  finished: u32,        // 1 when stopped
  counted: u32,         // tokens before this position are in the token counts
  stored: u32,          // the draft model has the keys and values of positions before this one
}

const NONE = 0xffffffffu;        // a place in the history without a guess
const TOKEN = 0x00ffffffu;       // the bits of a word that are the token id

fn history_index(sequence: Sequence, position: u32) -> u32 {
  return position + select(0u, sequence.history, position >= sequence.start);
}
`;

/** Philox4x32-10 (Salmon et al. 2011), the counter-based generator behind every draw. */
export const philoxChunk = /* wgsl */ `
fn multiply_wide(a: u32, b: u32) -> vec2u {
  let a0 = a & 0xffffu; let a1 = a >> 16u;
  let b0 = b & 0xffffu; let b1 = b >> 16u;
  let low = a0 * b0;
  let middle = a1 * b0 + (low >> 16u);
  let cross = a0 * b1 + (middle & 0xffffu);
  return vec2u(a * b, a1 * b1 + (middle >> 16u) + (cross >> 16u));
}

fn philox(counter: vec4u, seed: vec2u) -> vec4u {
  var c = counter;
  var k = seed;
  for (var round = 0u; round < 10u; round++) {
    let p = multiply_wide(0xd2511f53u, c.x);
    let q = multiply_wide(0xcd9e8d57u, c.z);
    c = vec4u(q.y ^ c.y ^ k.x, q.x, p.y ^ c.w ^ k.y, p.x);
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}

// Gumbel noise -log(-log(1 - v)), v in (0, 1): precise where it is large, so that rare tokens keep their due.
fn gumbel(bits: u32) -> f32 {
  let v = (f32(bits) + 0.5) * 2.3283064e-10;
  let exponential = select(-log(max(1.0 - v, 5.9604645e-8)), v + 0.5 * v * v, v < 1e-3);
  return -log(exponential);
}
`;

/** Bits of a number in an order that compares like the numbers; of one, and of four. */
export const orderedChunk = /* wgsl */ `
fn ordered(value: f32) -> u32 { return ordered4(vec4f(value)).x; }
fn ordered4(values: vec4f) -> vec4u {
  let bits = bitcast<vec4u>(values);
  return select(bits | vec4u(0x80000000u), ~bits, bits >= vec4u(0x80000000u));
}
`;

/**
 * Draws one token a row; a workgroup a row. Order: temperature, top-k, top-p, min-p, then Gumbel-max
 * with noise keyed by (seed + sample index, position, token id), so that a draw depends on nothing else.
 * Filters are thresholds on the logit, see \`thresholdChunk\`; equal logits stay or go together.
 * Probability mass is summed in fixed point (30 bits), so that the order of addition does not matter. Four logits at once are a
 * vector, whose parts are never indexed by a loop.
 */
export const sampleBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;         // [1 + rows]: token, position, leaf, sequence
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read> logits: array<f32>;          // [rows, VOCAB], the model's own
@group(0) @binding(3) var<storage, read> adjusted: array<f32>;        // [rows, VOCAB], after bias and penalties
@group(0) @binding(4) var<storage, read_write> picks: array<vec4u>;   // [rows]: token, log-probability (f32 bits), threshold, 0

const LOWEST = -3.4e38;
const MASS = 1073741824.0;
const STEP = 4u * REDUCE_WIDTH;                                       // logits of a round: four of each invocation at once

// Where logits i, i + REDUCE_WIDTH, … are; those past the last have no place of their own.
const APART = REDUCE_WIDTH * vec4u(0u, 1u, 2u, 3u);
fn places(i: u32) -> vec4u { return min(i + APART, vec4u(VOCAB - 1u)); }
fn are_there(i: u32) -> vec4<bool> { return i + APART < vec4u(VOCAB); }
fn adjusted_at(at: vec4u) -> vec4f { return vec4f(adjusted[at.x], adjusted[at.y], adjusted[at.z], adjusted[at.w]); }
fn logits_at(at: vec4u) -> vec4f { return vec4f(logits[at.x], logits[at.y], logits[at.z], logits[at.w]); }

fn sum_exp(base: u32, lane: u32, floor: u32, scale: f32, top: f32) -> f32 {
  var sums = vec4f();
  for (var i = lane; i < VOCAB; i += STEP) {
    let values = adjusted_at(base + places(i));
    let kept = are_there(i) & (ordered4(values) >= vec4u(floor));
    sums += select(vec4f(), exp((values - top) * scale), kept);
  }
  return reduce_add4(vec4f(dot(sums, vec4f(1.0))), lane).x;
}

fn run(group: vec3u, lane: u32) {
  if (group.x >= batch[0].x) { return; }
  let row = batch[1u + group.x];
  let base = group.x * VOCAB;
  let greedy = sequences[row.w].temperature <= 0.0;
  let scale = select(1.0 / sequences[row.w].temperature, 1.0, greedy);

  // Largest logits, of the model's own and of the adjusted ones, the model's log-sum-exp, and the mass of all tokens.
  var largest = vec4f(LOWEST);
  for (var i = lane; i < VOCAB; i += STEP) {
    let own = logits_at(base + places(i));
    let after = adjusted_at(base + places(i));
    let most = max(max(vec2f(own.x, after.x), vec2f(own.y, after.y)), max(vec2f(own.z, after.z), vec2f(own.w, after.w)));
    largest = max(largest, vec4f(most, 0.0, 0.0));
  }
  let tops = reduce_max4(largest, lane);
  let p = sequences[row.w].top_p;
  var sums = vec4f();
  var masses = vec4f();
  for (var i = lane; i < VOCAB; i += STEP) {
    let at = base + places(i);
    let there = are_there(i);
    sums += select(vec4f(), exp(logits_at(at) - tops.x), there);
    if (p < 1.0) { masses += select(vec4f(), exp((adjusted_at(at) - tops.y) * scale), there); }
  }
  let sum = reduce_add4(vec4f(dot(sums, vec4f(1.0)), dot(masses, vec4f(1.0)), 0.0, 0.0), lane);
  let log_sum = tops.x + log(sum.x);

  var floor = 0u;
  if (!greedy) {
    let k = sequences[row.w].top_k;
    if (k > 0u && k < VOCAB) { floor = threshold(base, lane, k, 0u, scale, tops.y, 0.0); }
    if (p < 1.0) {
      var total = sum.y;
      if (floor > 0u) { total = sum_exp(base, lane, floor, scale, tops.y); }
      let wanted = max(1u, u32(ceil(p * MASS)));                       // at p = 0 the likeliest is left
      floor = max(floor, threshold(base, lane, wanted, floor, scale, tops.y, MASS / total));
    }
    let least = sequences[row.w].min_p;
    if (least > 0.0) { floor = max(floor, min(ordered(tops.y), ordered(tops.y + log(least) / scale))); }
  }

  // Gumbel-max over what is left; of equal scores the lowest id wins.
  var best = LOWEST;
  var token = 0u;
  for (var quad = lane; quad < (VOCAB + 3u) / 4u; quad += REDUCE_WIDTH) {
    let ids = 4u * quad + vec4u(0u, 1u, 2u, 3u);
    let values = adjusted_at(base + min(ids, vec4u(VOCAB - 1u)));
    let kept = (ids < vec4u(VOCAB)) & (ordered4(values) >= vec4u(floor));
    if (!any(kept)) { continue; }
    var scores = values;
    if (!greedy) {
      let bits = philox(vec4u(quad, row.y + 1u, 0u, 0u), sequences[row.w].seed);
      let noise = vec4f(gumbel(bits.x), gumbel(bits.y), gumbel(bits.z), gumbel(bits.w));
      scores = (values - tops.y) * scale + noise;
    }
    if (kept.x && scores.x > best) { best = scores.x; token = ids.x; }
    if (kept.y && scores.y > best) { best = scores.y; token = ids.y; }
    if (kept.z && scores.z > best) { best = scores.z; token = ids.z; }
    if (kept.w && scores.w > best) { best = scores.w; token = ids.w; }
  }
  let winner = reduce_max4(vec4f(best), lane).x;
  let first = reduce_max4(vec4f(select(LOWEST, -f32(token), best == winner)), lane).x;
  if (lane == 0u) {
    let id = min(u32(-first), VOCAB - 1u);
    picks[group.x] = vec4u(id, bitcast<u32>(logits[base + id] - log_sum), floor, 0u);
  }
}
`;

/**
 * Bias, then penalties: repetition (divides a positive logit of a token seen in prompt or output,
 * multiplies a negative one), presence and frequency (of the output). \`counts\` holds a word a token:
 * times generated, and in the top bit whether the prompt has it. Tokens that are not counted yet, up to the
 * row's own, are found in the history: guesses count for the guesses after them and leave no trace when rejected.
 */
export const adjustBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;         // [1 + rows]: token, position, leaf, sequence
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read> states: array<State>;
@group(0) @binding(3) var<storage, read> history: array<u32>;
@group(0) @binding(4) var<storage, read> logits: array<f32>;          // [rows, VOCAB]
@group(0) @binding(5) var<storage, read> bias: array<f32>;            // [VOCAB]
@group(0) @binding(6) var<storage, read> counts: array<u32>;          // [sequences, VOCAB]
@group(0) @binding(7) var<storage, read_write> adjusted: array<f32>;  // [rows, VOCAB]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= VOCAB || id.y >= batch[0].x) { return; }
  let row = batch[1u + id.y];
  let s = sequences[row.w];
  var count = counts[s.counts * VOCAB + id.x];
  for (var p = max(states[row.w].counted, s.start); p <= row.y; p++) {
    if ((history[history_index(s, p)] & TOKEN) == id.x) { count++; }
  }
  let generated = count & 0x7fffffffu;
  var value = logits[id.y * VOCAB + id.x] + bias[id.x];
  if (count > 0u) { value = select(value * s.repetition, value / s.repetition, value > 0.0); }
  if (generated > 0u) { value -= s.presence + s.frequency * f32(generated); }
  adjusted[id.y * VOCAB + id.x] = value;
}
`;

/** Adds the tokens before each pending one to the counts; an invocation a sequence. */
export const tallyBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(1) var<storage, read_write> states: array<State>;
@group(0) @binding(2) var<storage, read> history: array<u32>;
@group(0) @binding(3) var<storage, read_write> counts: array<u32>;    // [sequences, VOCAB]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= arrayLength(&states)) { return; }
  let s = sequences[id.x];
  let position = states[id.x].position;
  for (var p = max(states[id.x].counted, s.start); p < position; p++) {
    counts[s.counts * VOCAB + (history[history_index(s, p)] & TOKEN)]++;
  }
  states[id.x].counted = position;
}
`;
