/**
 * Reading a step's plan: a buffer of words that \`layOutTables\` writes. Word 4 * KIND holds where the records of
 * a kind begin, 12 words each, one per stretch of a segment; KIND, PAGE and the binding \`plan\` come from the kernel.
 */
export const segmentChunk = /* wgsl */ `
const RECORD_WORDS = 12u;

struct Segment {
  start: u32,       // first position of the stretch
  end: u32,         // one past its last; 2^32 - 1 for a leaf, where the rows' own positions are the bound
  first_row: u32,   // the rows below it: first and number
  rows: u32,
  base: u32,        // position of entry 0 of the page table
  pages: u32,       // word at which the page table begins
  modulus: u32,     // entries in it
  slab: u32,
  parent: u32,      // record of the stretch before it, plus 1; 0 at a root
  splits: u32,      // attention: parts its keys are cut into,
  partials: u32,    //            where their partial results begin,
  chunk: u32,       //            keys in a part
}

fn segment_at(index: u32) -> Segment {
  let at = plan[4u * KIND] + index * RECORD_WORDS;
  return Segment(
    plan[at], plan[at + 1u], plan[at + 2u], plan[at + 3u], plan[at + 4u], plan[at + 5u],
    plan[at + 6u], plan[at + 7u], plan[at + 8u], plan[at + 9u], plan[at + 10u], plan[at + 11u],
  );
}

// Index, in quads, of \`relative\` = position - base for key (0) or value (1) head \`head\` in the slab.
fn kv_quad(s: Segment, relative: u32, which: u32, head: u32) -> u32 {
  let page = plan[s.pages + (relative / PAGE) % s.modulus];
  return (((page * 2u + which) * KV_HEADS + head) * PAGE + relative % PAGE) * (HEAD_DIM / 4u);
}
`;

/** Turns queries in place and keys on the way into their pages (RoPE of neighbours); values go there as they are. */
export const ropeAppendBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;          // [1 + rows]: token, position, leaf, sequence
@group(0) @binding(1) var<storage, read> plan: array<u32>;
@group(0) @binding(2) var<storage, read> angles: array<vec4f>;         // [positions, HEAD_DIM / 4]: cos, sin, cos, sin
@group(0) @binding(3) var<storage, read_write> x: array<vec4f>;        // [rows, HEADS + 2 * KV_HEADS, HEAD_DIM / 4]
@group(0) @binding(4) var<storage, read_write> kv: array<vec4<KV>>;    // [pages, 2, KV_HEADS, PAGE, HEAD_DIM / 4]

const ALL_HEADS = HEADS + 2u * KV_HEADS;
const QUADS = HEAD_DIM / 4u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let head = FIRST_HEAD + id.x / QUADS;
  if (head >= ALL_HEADS || id.y >= batch[0].x) { return; }
  let row = batch[1u + id.y];
  let quad = id.x % QUADS;
  let at = (id.y * ALL_HEADS + head) * QUADS + quad;
  let turn = angles[row.y * QUADS + quad];
  let values = x[at];
  let turned = values * turn.xxzz + values.yxwz * turn.yyww * vec4f(-1.0, 1.0, -1.0, 1.0);
  if (head < HEADS) {
    x[at] = turned;
    return;
  }
  let s = segment_at(row.z);
  if (s.slab != SLAB) { return; }
  let which = (head - HEADS) / KV_HEADS;
  let to = kv_quad(s, row.y - s.base, which, (head - HEADS) % KV_HEADS) + quad;
  kv[to] = vec4<KV>(select(turned, values, which == 1u));
}
`;

/**
 * \`store\` of the product that computes queries, keys and values: what \`ropeAppendBody\` would do with them, of one slab. After
 * \`turnChunk\` of \`@ensample/tensor\`.
 */
export const appendStore = /* wgsl */ `
@group(0) @binding(next) var<storage, read> plan: array<u32>;
@group(0) @binding(next) var<storage, read_write> kv: array<vec2<KV>>; // [pages, 2, KV_HEADS, PAGE, HEAD_DIM / 2]

fn store(row: u32, n: u32, values: vec2f) {
  let at = dims.w + n;
  let head = at / HEAD_DIM;
  let pair = turned(row, at, values);
  if (head < HEADS) {
    store_both(row, at, pair);
    return;
  }
  let place = batch[1u + row];
  let s = segment_at(place.z);
  let which = (head - HEADS) / KV_HEADS;
  let to = kv_quad(s, place.y - s.base, which, (head - HEADS) % KV_HEADS) * 2u + at % HEAD_DIM / 2u;
  kv[to] = vec2<KV>(select(pair, values, which == 1u));
}
`;
