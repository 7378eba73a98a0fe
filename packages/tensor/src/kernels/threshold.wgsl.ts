/**
 * The logit from which on tokens are likely enough to make up a number of them, or a mass. A histogram of distances from the largest
 * logit says between which two narrow bounds it lies, and the logits there are compared with each other. Where they are too many,
 * radix selection finds it. Logits are read as `sampleBody` does.
 */
export const thresholdChunk = /* wgsl */ `
const BINS = 2048u;                                                   // of distances; those of mass 0 are in the last
const BINS_OF_ONE = 96.0;
const BLOCK = 32u;                                                    // bins that are added up first
const LIST = 512u;
var<workgroup> histogram: array<atomic<u32>, BINS>;                   // later keys of a list, and from LIST on their weights
var<workgroup> totals: array<u32, BINS / BLOCK>;
var<workgroup> selection: vec2u;
var<workgroup> listed: atomic<u32>;
var<workgroup> highest: atomic<u32>;

// What tokens weigh: one, or their mass.
fn weights_of(values: vec4f, scale: f32, top: f32, mass: f32) -> vec4u {
  return select(vec4u(1u), vec4u(exp((values - top) * scale) * mass + 0.5), mass > 0.0);
}

// In bins. Most tokens are past the last one: what takes long is done only for the others.
fn distances(values: vec4f, scale: f32, top: f32) -> vec4f { return (top - values) * scale * BINS_OF_ONE; }

fn add_to(bin: u32, weight: u32, counts: bool) {
  if (counts && weight > 0u) { atomicAdd(&histogram[bin], weight); }
}

fn list(key: u32, weight: u32, counts: bool) {
  if (!counts) { return; }
  let at = atomicAdd(&listed, 1u);
  if (at >= LIST) { return; }
  atomicStore(&histogram[at], key);
  atomicStore(&histogram[LIST + at], weight);
}

// The largest key such that the tokens from it up weigh at least wanted.
fn threshold(base: u32, lane: u32, wanted: u32, floor: u32, scale: f32, top: f32, mass: f32) -> u32 {
  for (var i = lane; i < BINS; i += REDUCE_WIDTH) { atomicStore(&histogram[i], 0u); }
  workgroupBarrier();
  for (var i = lane; i < VOCAB; i += STEP) {
    let values = adjusted_at(base + places(i));
    let bins = distances(values, scale, top);
    // The last bin has all that is left.
    let counts = are_there(i) & (bins < vec4f(f32(BINS - 1u))) & (ordered4(values) >= vec4u(floor));
    if (!any(counts)) { continue; }
    let at = vec4u(bins);
    let weights = weights_of(values, scale, top, mass);
    add_to(at.x, weights.x, counts.x);
    add_to(at.y, weights.y, counts.y);
    add_to(at.z, weights.z, counts.z);
    add_to(at.w, weights.w, counts.w);
  }
  workgroupBarrier();
  for (var block = lane; block < BINS / BLOCK; block += REDUCE_WIDTH) {
    var held = 0u;
    for (var i = 0u; i < BLOCK; i++) { held += atomicLoad(&histogram[block * BLOCK + i]); }
    totals[block] = held;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var remaining = wanted;
    var block = 0u;
    while (totals[block] < remaining && block < BINS / BLOCK - 1u) { remaining -= totals[block]; block++; }
    var bin = block * BLOCK;
    let last = bin + BLOCK - 1u;
    while (atomicLoad(&histogram[bin]) < remaining && bin < last) { remaining -= atomicLoad(&histogram[bin]); bin++; }
    selection = vec2u(bin, remaining);
    atomicStore(&listed, 0u);
    atomicStore(&highest, 0u);
  }
  let found = workgroupUniformLoad(&selection);
  let nearest = vec4f(f32(found.x));
  let last = vec4<bool>(found.x == BINS - 1u);
  for (var i = lane; i < VOCAB; i += STEP) {
    let values = adjusted_at(base + places(i));
    let keys = ordered4(values);
    let bins = distances(values, scale, top);
    let counts = are_there(i) & (bins >= nearest) & ((bins < nearest + 1.0) | last) & (keys >= vec4u(floor));
    if (!any(counts)) { continue; }
    let weights = weights_of(values, scale, top, mass);
    list(keys.x, weights.x, counts.x);
    list(keys.y, weights.y, counts.y);
    list(keys.z, weights.z, counts.z);
    list(keys.w, weights.w, counts.w);
  }
  workgroupBarrier();
  if (lane == 0u) { selection.x = atomicLoad(&listed); }
  let count = workgroupUniformLoad(&selection).x;
  if (count > LIST) { return radix_threshold(base, lane, wanted, floor, scale, top, mass); }
  for (var i = lane; i < count; i += REDUCE_WIDTH) {
    let key = atomicLoad(&histogram[i]);
    var above = 0u;
    var lowest = true;
    for (var j = 0u; j < count; j++) {
      if (atomicLoad(&histogram[j]) >= key) { above += atomicLoad(&histogram[LIST + j]); } else { lowest = false; }
    }
    if (lowest || above >= found.y) { atomicMax(&highest, key); }
  }
  workgroupBarrier();
  if (lane == 0u) { selection.x = atomicLoad(&highest); }
  return workgroupUniformLoad(&selection).x;
}

// The same, byte by byte.
fn radix_threshold(base: u32, lane: u32, wanted: u32, floor: u32, scale: f32, top: f32, mass: f32) -> u32 {
  var prefix = 0u;
  var remaining = wanted;
  for (var byte = 0u; byte < 4u; byte++) {
    let shift = 24u - 8u * byte;
    let known = select(0xffffffffu << ((shift + 8u) & 31u), 0u, byte == 0u);
    for (var i = lane; i < 256u; i += REDUCE_WIDTH) { atomicStore(&histogram[i], 0u); }
    workgroupBarrier();
    for (var i = lane; i < VOCAB; i += STEP) {
      let values = adjusted_at(base + places(i));
      let keys = ordered4(values);
      let counts = are_there(i) & (keys >= vec4u(floor)) & ((keys & vec4u(known)) == vec4u(prefix));
      if (!any(counts)) { continue; }
      let at = (keys >> vec4u(shift)) & vec4u(255u);
      let weights = weights_of(values, scale, top, mass);
      add_to(at.x, weights.x, counts.x);
      add_to(at.y, weights.y, counts.y);
      add_to(at.z, weights.z, counts.z);
      add_to(at.w, weights.w, counts.w);
    }
    workgroupBarrier();
    if (lane == 0u) {
      var bin = 255u;
      while (atomicLoad(&histogram[bin]) < remaining && bin > 0u) { remaining -= atomicLoad(&histogram[bin]); bin--; }
      selection = vec2u(prefix | (bin << shift), remaining);
    }
    let found = workgroupUniformLoad(&selection);
    prefix = found.x;
    remaining = found.y;
  }
  return prefix;
}
`;
