/** Fills a buffer with words that depend on nothing but seed and place; `draw_word` says what a word holds. */
export const drawBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@group(0) @binding(1) var<uniform> setting: vec4u;   // words, seed, size of the values as f32 bits

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let size = bitcast<f32>(setting.z);
  for (var i = id.x; i < setting.x; i += 256u * groups.x) {
    words[i] = draw_word(hash(i ^ hash(setting.y)), size);
  }
}

// PCG (Jarzynski and Olano 2020): 32 bits that look random.
fn hash(value: u32) -> u32 {
  let state = value * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}

// From -1 to 1, of 16 bits.
fn symmetric(bits: u32) -> f32 {
  return f32(bits & 0xffffu) / 32767.5 - 1.0;
}
`;

/** Two f16 from −size to size. */
export const drawF16 = /* wgsl */ `
fn draw_word(bits: u32, size: f32) -> u32 {
  return pack2x16float(size * vec2f(symmetric(bits), symmetric(bits >> 16u)));
}
`;

/** An f32 from −size to size. */
export const drawF32 = /* wgsl */ `
fn draw_word(bits: u32, size: f32) -> u32 { return bitcast<u32>(size * symmetric(bits)); }
`;

/** Integers of any size: all bits. */
export const drawBits = /* wgsl */ `
fn draw_word(bits: u32, size: f32) -> u32 { return bits; }
`;

/** Two f16 from ¾ size to 1¼ size: scales. */
export const drawScales = /* wgsl */ `
fn draw_word(bits: u32, size: f32) -> u32 {
  return pack2x16float(size * (1.0 + 0.25 * vec2f(symmetric(bits), symmetric(bits >> 16u))));
}
`;
