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

/** Copies the rows' keys and values into their pages. */
export const appendBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;          // [1 + rows]: token, position, leaf, sequence
@group(0) @binding(1) var<storage, read> plan: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4f>;              // [rows, STRIDE / 4]: queries, keys, values
@group(0) @binding(3) var<storage, read_write> kv: array<vec4<KV>>;    // [pages, 2, KV_HEADS, PAGE, HEAD_DIM / 4]

const QUADS = HEAD_DIM / 4u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= 2u * KV_HEADS * QUADS || id.y >= batch[0].x) { return; }
  let row = batch[1u + id.y];
  let s = segment_at(row.z);
  if (s.slab != SLAB) { return; }
  let head = id.x / QUADS;
  let at = kv_quad(s, row.y - s.base, head / KV_HEADS, head % KV_HEADS);
  kv[at + id.x % QUADS] = vec4<KV>(x[id.y * (STRIDE / 4u) + KEYS / 4u + id.x]);
}
`;
