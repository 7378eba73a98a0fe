/** Sums and maxima over a workgroup of REDUCE_WIDTH invocations, through workgroup memory. */
export const reduceTree = /* wgsl */ `
var<workgroup> reduce_scratch: array<vec4f, REDUCE_WIDTH>;

fn reduce_add4(value: vec4f, lane: u32) -> vec4f {
  workgroupBarrier();
  reduce_scratch[lane] = value;
  workgroupBarrier();
  for (var width = REDUCE_WIDTH / 2u; width > 0u; width /= 2u) {
    if (lane < width) { reduce_scratch[lane] += reduce_scratch[lane + width]; }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&reduce_scratch[0]);
}

fn reduce_max4(value: vec4f, lane: u32) -> vec4f {
  workgroupBarrier();
  reduce_scratch[lane] = value;
  workgroupBarrier();
  for (var width = REDUCE_WIDTH / 2u; width > 0u; width /= 2u) {
    if (lane < width) { reduce_scratch[lane] = max(reduce_scratch[lane], reduce_scratch[lane + width]); }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&reduce_scratch[0]);
}
`;

/** The same with subgroup operations first; any subgroup size from 4 on. */
export const reduceSubgroup = /* wgsl */ `
const REDUCE_SUBGROUPS = REDUCE_WIDTH / 4u;
var<workgroup> reduce_scratch: array<vec4f, REDUCE_SUBGROUPS>;
var<workgroup> reduce_result: vec4f;

fn reduce_add4(value: vec4f, lane: u32) -> vec4f {
  let partial = subgroupAdd(value);
  let size = subgroupBroadcastFirst(subgroup_width);
  workgroupBarrier();
  if (lane % size == 0u) { reduce_scratch[lane / size] = partial; }
  workgroupBarrier();
  if (lane == 0u) {
    var sum = reduce_scratch[0];
    for (var i = 1u; i < REDUCE_WIDTH / size; i++) { sum += reduce_scratch[i]; }
    reduce_result = sum;
  }
  return workgroupUniformLoad(&reduce_result);
}

fn reduce_max4(value: vec4f, lane: u32) -> vec4f {
  let partial = subgroupMax(value);
  let size = subgroupBroadcastFirst(subgroup_width);
  workgroupBarrier();
  if (lane % size == 0u) { reduce_scratch[lane / size] = partial; }
  workgroupBarrier();
  if (lane == 0u) {
    var best = reduce_scratch[0];
    for (var i = 1u; i < REDUCE_WIDTH / size; i++) { best = max(best, reduce_scratch[i]); }
    reduce_result = best;
  }
  return workgroupUniformLoad(&reduce_result);
}
`;

/** Entry point of kernels that reduce: calls `run(workgroup id, lane)`. */
export const entryTree = /* wgsl */ `
@compute @workgroup_size(REDUCE_WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  run(group, lane);
}
`;

/** The same, keeping the subgroup size where the reductions find it. */
export const entrySubgroup = /* wgsl */ `
var<private> subgroup_width: u32;

@compute @workgroup_size(REDUCE_WIDTH)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_size) width: u32,
) {
  subgroup_width = width;
  run(group, lane);
}
`;
