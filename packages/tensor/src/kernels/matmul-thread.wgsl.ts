/**
 * Products for CPU drivers: an invocation computes a register tile of 1, 4 or 8 rows × 4 outputs by
 * itself, without barriers. Written out by hand: these compilers do not unroll loops over arrays, and
 * an indexed register tile would live in memory. All three add up in the same order, so a row's result
 * does not depend on how many rows there are.
 */
export const threadHead = /* wgsl */ `
fn weights(n: vec4u, k4: u32) -> mat4x4f {
  return mat4x4f(weight4(n.x, k4), weight4(n.y, k4), weight4(n.z, k4), weight4(n.w, k4));
}

fn scales4(n: vec4u, k4: u32) -> vec4f {
  return vec4f(group_scale(n.x, k4), group_scale(n.y, k4), group_scale(n.z, k4), group_scale(n.w, k4));
}

fn store4(row: u32, first: u32, value: vec4f) {
  if (row >= batch[0].x) { return; }
  store(row, first, value.xy);
  if (first + 2u < dims.y) { store(row, first + 2u, value.zw); }
}

fn outputs(first: u32) -> vec4u {
  return min(vec4u(first, first + 1u, first + 2u, first + 3u), vec4u(dims.y - 1u));
}
`;

export const thread1 = /* wgsl */ `
@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let first = id.x * 4u;
  let row = id.y;
  if (first >= dims.y || row >= batch[0].x) { return; }
  let n = outputs(first);
  let quads = dims.x / 4u;
  let at = row * quads;
  var a = vec4f();
  for (var g = 0u; g < quads; g += 8u) {
    var p = vec4f();
    let end = min(g + 8u, quads);
    for (var k = g; k < end; k++) { p += vec4f(x[at + k]) * weights(n, k); }
    a += p * scales4(n, g);
  }
  store4(row, first, a);
}
`;

export const thread4 = /* wgsl */ `
@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let first = id.x * 4u;
  let row = id.y * 4u;
  if (first >= dims.y || row >= batch[0].x) { return; }
  let n = outputs(first);
  let quads = dims.x / 4u;
  let last = batch[0].x - 1u;
  let x0 = row * quads;
  let x1 = min(row + 1u, last) * quads;
  let x2 = min(row + 2u, last) * quads;
  let x3 = min(row + 3u, last) * quads;
  var a0 = vec4f(); var a1 = vec4f(); var a2 = vec4f(); var a3 = vec4f();
  for (var g = 0u; g < quads; g += 8u) {
    var p0 = vec4f(); var p1 = vec4f(); var p2 = vec4f(); var p3 = vec4f();
    let end = min(g + 8u, quads);
    for (var k = g; k < end; k++) {
      let w = weights(n, k);
      p0 += vec4f(x[x0 + k]) * w;
      p1 += vec4f(x[x1 + k]) * w;
      p2 += vec4f(x[x2 + k]) * w;
      p3 += vec4f(x[x3 + k]) * w;
    }
    let s = scales4(n, g);
    a0 += p0 * s; a1 += p1 * s; a2 += p2 * s; a3 += p3 * s;
  }
  store4(row, first, a0);
  store4(row + 1u, first, a1);
  store4(row + 2u, first, a2);
  store4(row + 3u, first, a3);
}
`;

export const thread8 = /* wgsl */ `
@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let first = id.x * 4u;
  let row = id.y * 8u;
  if (first >= dims.y || row >= batch[0].x) { return; }
  let n = outputs(first);
  let quads = dims.x / 4u;
  let last = batch[0].x - 1u;
  let x0 = row * quads;
  let x1 = min(row + 1u, last) * quads;
  let x2 = min(row + 2u, last) * quads;
  let x3 = min(row + 3u, last) * quads;
  let x4 = min(row + 4u, last) * quads;
  let x5 = min(row + 5u, last) * quads;
  let x6 = min(row + 6u, last) * quads;
  let x7 = min(row + 7u, last) * quads;
  var a0 = vec4f(); var a1 = vec4f(); var a2 = vec4f(); var a3 = vec4f();
  var a4 = vec4f(); var a5 = vec4f(); var a6 = vec4f(); var a7 = vec4f();
  for (var g = 0u; g < quads; g += 8u) {
    var p0 = vec4f(); var p1 = vec4f(); var p2 = vec4f(); var p3 = vec4f();
    var p4 = vec4f(); var p5 = vec4f(); var p6 = vec4f(); var p7 = vec4f();
    let end = min(g + 8u, quads);
    for (var k = g; k < end; k++) {
      let w = weights(n, k);
      p0 += vec4f(x[x0 + k]) * w;
      p1 += vec4f(x[x1 + k]) * w;
      p2 += vec4f(x[x2 + k]) * w;
      p3 += vec4f(x[x3 + k]) * w;
      p4 += vec4f(x[x4 + k]) * w;
      p5 += vec4f(x[x5 + k]) * w;
      p6 += vec4f(x[x6 + k]) * w;
      p7 += vec4f(x[x7 + k]) * w;
    }
    let s = scales4(n, g);
    a0 += p0 * s; a1 += p1 * s; a2 += p2 * s; a3 += p3 * s;
    a4 += p4 * s; a5 += p5 * s; a6 += p6 * s; a7 += p7 * s;
  }
  store4(row, first, a0);
  store4(row + 1u, first, a1);
  store4(row + 2u, first, a2);
  store4(row + 3u, first, a3);
  store4(row + 4u, first, a4);
  store4(row + 5u, first, a5);
  store4(row + 6u, first, a6);
  store4(row + 7u, first, a7);
}
`;
