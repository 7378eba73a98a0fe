/** What each row's next token costs: log-sum-exp of its logits minus the token's own; a workgroup a row. */
export const lossBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;         // [1 + rows]: token, position, leaf, sequence
@group(0) @binding(1) var<storage, read> tokens: array<u32>;          // [sequences, LENGTH]
@group(0) @binding(2) var<storage, read> logits: array<f32>;          // [rows, VOCAB]
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;    // [sequences, LENGTH], by the predicted position

fn run(group: vec3u, lane: u32) {
  if (group.x >= batch[0].x) { return; }
  let row = batch[1u + group.x];
  let base = group.x * VOCAB;
  var largest = logits[base];
  for (var i = lane; i < VOCAB; i += REDUCE_WIDTH) { largest = max(largest, logits[base + i]); }
  let top = reduce_max4(vec4f(largest), lane).x;
  var sum = 0.0;
  for (var i = lane; i < VOCAB; i += REDUCE_WIDTH) { sum += exp(logits[base + i] - top); }
  let log_sum = top + log(reduce_add4(vec4f(sum), lane).x);
  let next = row.w * LENGTH + row.y + 1u;
  if (lane == 0u) { losses[next] = log_sum - logits[base + tokens[next]]; }
}
`;
