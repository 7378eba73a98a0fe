/**
 * Guesses by looking the last tokens up: finds the longest run of tokens that ends like the sample does, at most
 * LONGEST and at least SHORTEST of them, and copies what came after it. A workgroup a sample. It goes on behind the
 * guesses that there are. OWN: the run is in the prompt or the sample itself, of equals the last; SIBLINGS: in what the
 * other samples of the prompt have said, stopped ones included.
 */
export const lookupBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> slots: array<vec4u>;            // (samples, rows each, …), (leaf, sequence, …)
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read> states: array<State>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;

const WIDTH = 64u;
var<workgroup> found: atomic<u32>;

fn token(s: Sequence, position: u32) -> u32 { return history[history_index(s, position)] & TOKEN; }

// How many tokens up to \`a\` of one sequence and up to \`b\` of the other are the same.
fn matched(one: Sequence, a: u32, other: Sequence, b: u32) -> u32 {
  var n = 0u;
  while (n < LONGEST && n <= min(a, b) && token(one, a - n) == token(other, b - n)) { n++; }
  return n;
}

// Longest first, then the highest index: both in a word.
fn propose(n: u32, index: u32) {
  if (n >= SHORTEST) { atomicMax(&found, (n << 26u) | index); }
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  if (group.x >= slots[0].x) { return; }
  let q = slots[1u + group.x].y;
  let s = sequences[q];
  if (states[q].finished == 1u) { return; }
  let end = min(states[q].position + slots[0].y, s.end);                 // one past the last place for a guess
  var last = states[q].position;
  while (last + 1u < end && history[history_index(s, last + 1u)] != NONE) { last++; }
  if (OWN == 1u) {
    for (var at = lane; at < last; at += WIDTH) { propose(matched(s, last, s, at), at); }
  } else {
    for (var c = 0u; c < arrayLength(&states); c++) {
      if (c == q || sequences[c].end == 0u) { continue; }
      let other = sequences[c];
      for (var at = other.start - 1u + lane; at < states[c].position; at += WIDTH) {
        propose(matched(s, last, other, at), other.history + at);
      }
    }
  }
  workgroupBarrier();
  let index = atomicLoad(&found) & 0x03ffffffu;
  if (atomicLoad(&found) == 0u) { return; }
  // Own text may be periodic: what came after the run then leads up to the run itself, and around.
  var source = q;
  var at = index;
  var period = last - at;
  if (OWN == 0u) {
    source = sibling_at(index);
    at = index - sequences[source].history;
    period = states[source].position - at;
  }
  let limit = select(last + period + 1u, end, OWN == 1u);
  for (var place = last + 1u + lane; place < min(end, limit); place += WIDTH) {
    let word = token(sequences[source], at + 1u + (place - last - 1u) % period);
    history[history_index(s, place)] = word | (ORIGIN << 24u);
  }
}

// The sequence in whose part of the history a word lies; their parts are of one size and in order.
fn sibling_at(index: u32) -> u32 {
  let size = max(1u, sequences[1].history - sequences[0].history);
  return (index - sequences[0].history - sequences[0].start + 1u) / size;
}
`;
