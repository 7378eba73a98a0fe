import type { DraftStrategy } from '@ensample/spec-decode';
import { kernel, sequenceChunk, type GpuTensor } from '@ensample/tensor';

/** Guesses what a table says comes after each token, on and on; an invocation a sample. */
const bigramBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> slots: array<vec4u>;            // (samples, rows each, …), (leaf, sequence, …)
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read> states: array<State>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;
@group(0) @binding(4) var<storage, read> table: array<u32>;              // [vocab]: a token id, or NONE

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= slots[0].x) { return; }
  let q = slots[1u + id.x].y;
  let s = sequences[q];
  let position = states[q].position;
  let end = min(position + slots[0].y, s.end);                           // one past the last place for a guess
  var token = history[history_index(s, position)] & TOKEN;
  for (var place = position + 1u; place < end; place++) {
    let at = history_index(s, place);
    if (history[at] == NONE) {
      if (table[token] == NONE) { return; }
      history[at] = table[token] | (ORIGIN << 24u);
    }
    token = history[at] & TOKEN;
  }
}
`;

/** @param table `[vocab]`: the token that follows each token, or 2³² − 1 for no guess. It stays the caller's. */
export function bigramLookup(table: GpuTensor<'u32'>): DraftStrategy {
  return {
    name: 'bigram-lookup',
    propose: async ({ tensors, origin, samples, record }) => {
      const { slots, sequences, states, history } = tensors;
      const code = kernel('bigram_lookup', { constants: { ORIGIN: origin } }, sequenceChunk, bigramBody);
      const run = { slots, sequences, states, history, table };
      return [await record('bigram', (pass) => pass.run(code, run, [Math.ceil(samples / 64)]))];
    },
  };
}

/** What last followed each token in `text`; 2³² − 1 for tokens that nothing followed. */
export function bigramTable(text: readonly number[], vocab: number): Uint32Array<ArrayBuffer> {
  const table = new Uint32Array(vocab).fill(0xffffffff);
  text.slice(1).forEach((token, i) => (table[text[i]!] = token));
  return table;
}
