/**
 * Takes a draft model's draws as guesses, where no strategy before it has one, and makes them the next step's input:
 * one workgroup, an invocation a sample, of whose rows the last counts. At a sample's end the row stays as it is.
 */
export const advanceDraftBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read_write> batch: array<vec4u>;      // [1 + rows]: token, position, leaf, sequence
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read_write> history: array<u32>;
@group(0) @binding(3) var<storage, read> picks: array<vec4u>;            // [rows]

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
  let each = max(1u, batch[0].y);
  let samples = batch[0].x / each;
  let r = each * lane + each - 1u;
  var row = vec4u();
  if (lane < samples) {
    row = batch[1u + r];
    let s = sequences[row.w];
    if (row.y + 1u < s.end) {
      let at = history_index(s, row.y + 1u);
      if (history[at] == NONE) { history[at] = picks[r].x | (ORIGIN << 24u); }
      row = vec4u(history[at] & TOKEN, row.y + 1u, row.z, row.w);
    }
  }
  storageBarrier();
  workgroupBarrier();
  if (lane < samples) { batch[1u + lane] = row; }
  if (lane == 0u) { batch[0] = vec4u(samples, 1u, 0u, 0u); }
}
`;

/** Writes down the distribution that each sample's guess was drawn from; a workgroup a sample. */
export const keepLawBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;            // [1 + rows]: token, position, leaf, sequence
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read> states: array<State>;
@group(0) @binding(3) var<storage, read> adjusted: array<f32>;           // [rows, VOCAB], of the draft model
@group(0) @binding(4) var<storage, read> picks: array<vec4u>;            // [rows]: token, log-probability, threshold
@group(0) @binding(5) var<storage, read_write> laws: array<f32>;         // [sequences, GUESSES, VOCAB]

fn run(group: vec3u, lane: u32) {
  let each = max(1u, batch[0].y);
  if (group.x >= batch[0].x / each) { return; }
  let r = each * group.x + each - 1u;
  let row = batch[1u + r];
  let guess = row.y - states[row.w].position;
  if (guess >= GUESSES) { return; }
  let law = law_of(r * VOCAB, picks[r].z, sequences[row.w].temperature, lane);
  let base = (row.w * GUESSES + guess) * VOCAB;
  for (var i = lane; i < VOCAB; i += REDUCE_WIDTH) {
    let greedy = select(0.0, 1.0, i == picks[r].x);
    laws[base + i] = select(probability(law, adjusted[r * VOCAB + i]), greedy, sequences[row.w].temperature <= 0.0);
  }
}
`;

/** Probabilities of the tokens that the filters left, from a row of \`adjusted\`. */
export const lawChunk = /* wgsl */ `
struct Law { top: f32, scale: f32, total: f32, threshold: u32 }

fn law_of(base: u32, threshold: u32, temperature: f32, lane: u32) -> Law {
  var largest = -3.4e38;
  for (var i = lane; i < VOCAB; i += REDUCE_WIDTH) { largest = max(largest, adjusted[base + i]); }
  var law = Law(reduce_max4(vec4f(largest), lane).x, 1.0 / max(temperature, 1e-9), 1.0, threshold);
  var sum = 0.0;
  for (var i = lane; i < VOCAB; i += REDUCE_WIDTH) { sum += probability(law, adjusted[base + i]); }
  law.total = reduce_add4(vec4f(sum), lane).x;
  return law;
}

fn probability(law: Law, logit: f32) -> f32 {
  return select(0.0, exp((logit - law.top) * law.scale) / law.total, ordered(logit) >= law.threshold);
}
`;

/**
 * The rule of speculative sampling (Leviathan et al. 2023, Chen et al. 2023; BASS §2): a guess d of law q is taken
 * with probability min(1, p(d) / q(d)), else the token is drawn from what p has above q. A guess without a law is
 * certain: q(d) = 1. Its noise differs from that of draws: counters (…, 1) and (…, 2). A workgroup a row.
 */
export const rejectBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;            // [1 + rows]: token, position, leaf, sequence
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read> states: array<State>;
@group(0) @binding(3) var<storage, read> history: array<u32>;
@group(0) @binding(4) var<storage, read> logits: array<f32>;             // [rows, VOCAB], the target's own
@group(0) @binding(5) var<storage, read> adjusted: array<f32>;           // [rows, VOCAB], after bias and penalties
@group(0) @binding(6) var<storage, read> laws: array<f32>;               // [sequences, GUESSES, VOCAB]
@group(0) @binding(7) var<storage, read_write> picks: array<vec4u>;      // [rows]: token, log-probability, threshold

const LOWEST = -3.4e38;

fn run(group: vec3u, lane: u32) {
  let r = group.x;
  if (r >= batch[0].x) { return; }
  let row = batch[1u + r];
  let s = sequences[row.w];
  let index = r % batch[0].y;
  // The last row of a sample has no guess to judge, nor have those that repeat the row at its end.
  if (index + 1u == batch[0].y || states[row.w].position + index != row.y || row.y + 1u >= s.end) { return; }
  let word = history[history_index(s, row.y + 1u)];
  if (word == NONE || s.temperature <= 0.0) { return; }
  let guess = word & TOKEN;
  let drawn = word >> 24u == MODEL;
  let base = r * VOCAB;
  let own = (row.w * GUESSES + index) * VOCAB;
  let pick = picks[r];
  let law = law_of(base, pick.z, s.temperature, lane);

  let coin = (f32(philox(vec4u(0u, row.y + 1u, 1u, 0u), s.seed).x) + 0.5) * 2.3283064e-10;
  let q = select(1.0, laws[own + guess], drawn);
  let taken = coin * q < probability(law, adjusted[base + guess]);

  var best = LOWEST;
  var token = pick.x;
  for (var i = lane; i < VOCAB; i += REDUCE_WIDTH) {
    let certain = select(0.0, 1.0, i == guess);
    let left = probability(law, adjusted[base + i]) - select(certain, laws[own + i], drawn);
    if (left > 0.0) {
      let score = log(left) + gumbel(philox(vec4u(i, row.y + 1u, 2u, 0u), s.seed).x);
      if (score > best) { best = score; token = i; }
    }
  }
  let winner = reduce_max4(vec4f(best), lane).x;
  let first = reduce_max4(vec4f(select(LOWEST, -f32(token), best == winner)), lane).x;
  if (lane == 0u) {
    let chosen = min(select(u32(-first), guess, taken), VOCAB - 1u);
    // The pick's own logit and log-probability give the row's log-sum-exp.
    let log_sum = logits[base + pick.x] - bitcast<f32>(pick.y);
    picks[r] = vec4u(chosen, bitcast<u32>(logits[base + chosen] - log_sum), pick.z, 0u);
  }
}
`;
