import { kernel, philoxChunk, sequenceChunk } from '@ensample/tensor';
import type { AcceptanceRule } from '@ensample/spec-decode';

/** A guess is right with probability RIGHT, whatever the models say; else the pick is another token. */
const imposeBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;            // [1 + rows]: token, position, leaf, sequence
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read> history: array<u32>;
@group(0) @binding(3) var<storage, read_write> picks: array<vec4u>;      // [rows]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= batch[0].x || (id.x + 1u) % batch[0].y == 0u) { return; }
  let row = batch[1u + id.x];
  let s = sequences[row.w];
  if (row.y + 1u >= s.end) { return; }
  let word = history[history_index(s, row.y + 1u)];
  if (word == NONE) { return; }
  let guess = word & TOKEN;
  let coin = (f32(philox(vec4u(0u, row.y + 1u, 3u, 0u), s.seed).x) + 0.5) * 2.3283064e-10;
  picks[id.x].x = select((guess + 1u) % VOCAB, guess, coin < RIGHT);
}
`;

/**
 * A rule that keeps each guess with the given probability: what speculation costs and gains can be measured at any
 * acceptance, with models of any shape and random weights. The text means nothing.
 */
export function imposedAcceptance(probability: number): AcceptanceRule {
  return {
    name: `imposed ${probability}`,
    needsLaws: false,
    judge(pass, { batch, sequences, history, picks }, { vocab, rows }) {
      const constants = { VOCAB: vocab, RIGHT: `${probability.toExponential()}f` };
      const code = kernel('impose', { constants }, sequenceChunk, philoxChunk, imposeBody);
      pass.run(code, { batch, sequences, history, picks }, [Math.ceil(rows / 64)]);
    },
  };
}
