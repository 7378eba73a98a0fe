/** What each of 32 invocations holds of a matrix: what its own part of a product takes, rows of the left and columns of the right in quads. */
const held: Readonly<Record<string, string>> = {
  Left: 'array<vec4f, EMULATED_ROWS * EMULATED_QUADS>', // every other row, or one of four
  Right: 'array<vec4f, EMULATED_QUADS>', // a column
  Sums: 'array<f32, EMULATED_ROWS>', // a column of those rows
};

const emulation = /* wgsl */ `
var<private> emulated_lane: u32;
var<private> emulated_nan: u32 = 0x7fc00000u;

// Of 16 rows, EMULATED_COLUMNS columns and sums of 4 · EMULATED_QUADS products.
const EMULATED_ROWS = EMULATED_COLUMNS / 2u;
const EMULATED_STEP = 32u / EMULATED_COLUMNS;
fn emulated_row(i: u32) -> u32 { return EMULATED_STEP * i + emulated_lane % 32u / EMULATED_COLUMNS; }
fn emulated_column() -> u32 { return emulated_lane % EMULATED_COLUMNS; }
// Compilers do not see that this is n: loops up to it are not unrolled, which takes lavapipe minutes.
fn emulated_bound(n: u32) -> u32 { return n + arrayLength(&STORAGE) / 0xffffffffu; }

var<workgroup> emulated_room: array<u32, WORKGROUP>;

fn emulated_share(value: u32) -> u32 {
  workgroupBarrier();
  emulated_room[emulated_lane] = value;
  workgroupBarrier();
  return emulated_lane / 32u * 32u;
}
fn emulated_subgroupShuffleXor(value: f32, mask: u32) -> f32 {
  let first = emulated_share(bitcast<u32>(value));
  return bitcast<f32>(emulated_room[first + ((emulated_lane % 32u) ^ mask)]);
}
fn emulated_subgroupAdd(value: f32) -> f32 {
  let first = emulated_share(bitcast<u32>(value));
  var sum = 0.0;
  for (var i = first; i < first + emulated_bound(32u); i++) { sum += bitcast<f32>(emulated_room[i]); }
  return sum;
}
fn emulated_subgroupMin(value: u32) -> u32 {
  let first = emulated_share(value);
  var least = value;
  for (var i = first; i < first + emulated_bound(32u); i++) { least = min(least, emulated_room[i]); }
  return least;
}
fn emulated_subgroupMax(value: u32) -> u32 {
  let first = emulated_share(value);
  var most = value;
  for (var i = first; i < first + emulated_bound(32u); i++) { most = max(most, emulated_room[i]); }
  return most;
}
fn emulated_subgroupAny(value: bool) -> bool { return emulated_subgroupMax(select(0u, 1u, value)) > 0u; }
`;

/** Vectors that are shuffled. */
const across = /* wgsl */ `
var<workgroup> emulated_vectors: array<vec4f, WORKGROUP>;

fn emulated_across(v: vec4f, mask: u32) -> vec4f {
  workgroupBarrier();
  emulated_vectors[emulated_lane] = v;
  workgroupBarrier();
  return emulated_vectors[emulated_lane / 32u * 32u + ((emulated_lane % 32u) ^ mask)];
}
`;

const multiply = /* wgsl */ `
fn subgroupMatrixMultiplyAccumulate(a: Left, b: Right, c: Sums) -> Sums {
  var sums = c;
  for (var i = 0u; i < emulated_bound(EMULATED_ROWS); i++) {
    for (var q = 0u; q < EMULATED_QUADS; q++) { sums[i] += dot(a[EMULATED_QUADS * i + q], b[q]); }
  }
  return sums;
}
`;

/** How matrices come from an array ARRAY and go there, in terms of \`elements\`. */
const access: Readonly<Record<string, string>> = {
  Left_row_major: /* wgsl */ `
fn emulated_Left_row_major_ARRAY(places: PLACES, offset: u32, stride: u32) -> Left {
  var matrix: Left;
  for (var i = 0u; i < emulated_bound(EMULATED_ROWS * EMULATED_QUADS); i++) {
    matrix[i] = emulated_quad_ARRAY(places, offset + emulated_row(i / EMULATED_QUADS) * stride, i % EMULATED_QUADS);
  }
  return matrix;
}`,
  Right_col_major: /* wgsl */ `
fn emulated_Right_col_major_ARRAY(places: PLACES, offset: u32, stride: u32) -> Right {
  var matrix: Right;
  for (var i = 0u; i < emulated_bound(EMULATED_QUADS); i++) { matrix[i] = emulated_quad_ARRAY(places, offset + emulated_column() * stride, i); }
  return matrix;
}`,
  Right_row_major: /* wgsl */ `
fn emulated_Right_row_major_ARRAY(places: PLACES, offset: u32, stride: u32) -> Right {
  var matrix: Right;
  let column = emulated_column();
  for (var i = 0u; i < emulated_bound(EMULATED_QUADS); i++) {
    let at = offset + 4u * i * stride;
    matrix[i] = vec4f(
      emulated_one_ARRAY(places, at, column), emulated_one_ARRAY(places, at + stride, column),
      emulated_one_ARRAY(places, at + 2u * stride, column), emulated_one_ARRAY(places, at + 3u * stride, column),
    );
  }
  return matrix;
}`,
  Sums_row_major: /* wgsl */ `
fn emulated_Sums_row_major_ARRAY(places: PLACES, offset: u32, stride: u32) -> Sums {
  var matrix: Sums;
  for (var i = 0u; i < emulated_bound(EMULATED_ROWS); i++) { matrix[i] = emulated_sum_ARRAY(places, offset + emulated_row(i) * stride, emulated_column()); }
  return matrix;
}`,
  Sums_col_major: /* wgsl */ `
fn emulated_Sums_col_major_ARRAY(places: PLACES, offset: u32, stride: u32) -> Sums {
  var matrix: Sums;
  for (var i = 0u; i < emulated_bound(EMULATED_ROWS); i++) { matrix[i] = emulated_sum_ARRAY(places, offset + emulated_column() * stride, emulated_row(i)); }
  return matrix;
}`,
  store: /* wgsl */ `
fn emulated_store_ARRAY(places: PLACES, offset: u32, matrix: Sums, stride: u32) {
  for (var i = 0u; i < emulated_bound(EMULATED_ROWS); i++) {
    let at = offset + emulated_row(i) * stride + emulated_column();
    let within = at < LENGTH;
    (*places)[select(0u, at, within)] = select(bitcast<f32>(emulated_nan), matrix[i], within);
  }
}`,
  // Four rows are a place, of which as many invocations hold one each.
  store_turned_quads: /* wgsl */ `
fn emulated_store_turned_quads_ARRAY(places: PLACES, offset: u32, matrix: Sums, stride: u32) {
  for (var i = 0u; i < emulated_bound(EMULATED_ROWS); i++) {
    let first = emulated_share(bitcast<u32>(matrix[i])) + emulated_column();
    let quad = vec4u(emulated_room[first], emulated_room[first + 8u], emulated_room[first + 16u], emulated_room[first + 24u]);
    let at = offset + emulated_column() * stride + i;
    let within = at < LENGTH;
    if (emulated_lane % 32u < 8u) { (*places)[select(0u, at, within)] = bitcast<vec4<ELEMENT>>(select(vec4u(emulated_nan), quad, within)); }
  }
}`,
  // Four columns are a place, which one invocation writes.
  store_quads: /* wgsl */ `
fn emulated_store_quads_ARRAY(places: PLACES, offset: u32, matrix: Sums, stride: u32) {
  for (var i = 0u; i < emulated_bound(EMULATED_ROWS); i++) {
    let first = emulated_share(bitcast<u32>(matrix[i])) + emulated_lane % 32u / 4u * 4u;
    let quad = vec4u(emulated_room[first], emulated_room[first + 1u], emulated_room[first + 2u], emulated_room[first + 3u]);
    let at = offset + emulated_row(i) * stride + emulated_column() / 4u;
    let within = at < LENGTH;
    if (emulated_lane % 4u == 0u) { (*places)[select(0u, at, within)] = bitcast<vec4<ELEMENT>>(select(vec4u(emulated_nan), quad, within)); }
  }
}`,
};

/** A sum is an f32, whatever the array holds. */
const sumsInQuads = /* wgsl */ `
fn emulated_sum_ARRAY(places: PLACES, at: u32, i: u32) -> f32 {
  let place = at + i / 4u;
  if (place >= LENGTH) { return bitcast<f32>(emulated_nan); }
  return bitcast<vec4f>((*places)[place])[i % 4u];
}
`;

/** Element i, and quad i, of those from place \`at\` on. Places count elements of the array, and a \`vec4u\` is eight f16. */
const halves = /* wgsl */ `
fn emulated_quad_ARRAY(places: PLACES, at: u32, i: u32) -> vec4f {
  let place = at + i / 2u;
  if (place >= LENGTH) { return vec4f(bitcast<f32>(emulated_nan)); }
  let value = (*places)[place];
  let bits = select(value.xy, value.zw, i % 2u == 1u);
  return vec4f(unpack2x16float(bits.x), unpack2x16float(bits.y));
}
fn emulated_one_ARRAY(places: PLACES, at: u32, i: u32) -> f32 { return emulated_quad_ARRAY(places, at, i / 4u)[i % 4u]; }
`;
const numbers = /* wgsl */ `
fn emulated_one_ARRAY(places: PLACES, at: u32, i: u32) -> f32 {
  if (at + i >= LENGTH) { return bitcast<f32>(emulated_nan); }
  return f32((*places)[at + i]);
}
fn emulated_quad_ARRAY(places: PLACES, at: u32, i: u32) -> vec4f {
  return vec4f(
    emulated_one_ARRAY(places, at, 4u * i), emulated_one_ARRAY(places, at, 4u * i + 1u),
    emulated_one_ARRAY(places, at, 4u * i + 2u), emulated_one_ARRAY(places, at, 4u * i + 3u),
  );
}
`;
/** How matrices come from an array, by what it holds. */
const elements: Readonly<Record<string, string>> = { vec4u: halves };

/**
 * WGSL whose matrices are arrays, of which each invocation holds a part, and whose subgroups have 32 invocations whatever the
 * driver's have: they meet in workgroup memory, so that a kernel has more barriers than it asks for. Each invocation's index
 * must be \`lane\` in \`main\`, and built-ins of subgroups be called by all; a vec4f is shuffled by a function \`across(v, mask)\`
 * alone. A matrix that is not within its array loads as NaN.
 *
 * Code without matrices and subgroups of a given size is left as it is.
 */
export function emulated(code: string): string {
  const matrices = code.includes('enable chromium_experimental_subgroup_matrix;');
  if (
    !matrices &&
    !/lane \/ 32u[^]*subgroupAdd|subgroupShuffleXor[^]*lane \/ 32u|const (JOIN = (16|32)|TEAM = (8|16|32))u/.test(
      code,
    )
  )
    return code;
  const chunks = new Set<string>();
  const define = (how: string, array: string, places: string): string => {
    const { type, element, length } = placesOf(code, array);
    const read = how.startsWith('Sums') ? sumsInQuads : (elements[element] ?? numbers);
    for (const chunk of [read, access[how] ?? '']) {
      const scalar = element === 'vec4f' ? 'f32' : 'u32';
      const named = chunk.replaceAll('ARRAY', array).replaceAll('PLACES', type);
      chunks.add(named.replaceAll('LENGTH', length).replaceAll('ELEMENT', scalar));
    }
    return `emulated_${how}_${array}(${places}, `;
  };
  const body = code
    .replace('enable chromium_experimental_subgroup_matrix;', '')
    .replace('diagnostic(off, chromium.subgroup_matrix_uniformity);', '')
    .replace(/alias (Left|Right|Sums) = .*;/g, (_, type: string) => `alias ${type} = ${held[type] ?? ''};`)
    .replace(
      /subgroupMatrixLoad<(\w+), (\w+)>\(([^,]+), /g,
      (_, type: string, order: string, places: string) =>
        define(`${type}_${order}`, rootOf(code, places), places),
    )
    .replace(/subgroupMatrixStore<(\w+)>\(([^,]+), /g, (_, order: string, places: string) => {
      const array = rootOf(code, places);
      const turned = order === 'col_major' ? '_turned' : '';
      const quads = placesOf(code, array).element.startsWith('vec4') ? '_quads' : '';
      return define(`store${turned}${quads}`, array, places);
    })
    .replace('return subgroupShuffleXor(v, mask);', 'return emulated_across(v, mask);')
    .replace(/\bsubgroup(Add|Min|Max|Any|ShuffleXor)\(/g, 'emulated_subgroup$1(')
    .replace(/; (\w+) < ([^;]+); \1\+\+\)/g, '; $1 < emulated_bound($2); $1++)')
    .replace(/fn main\([^{]*\{/, '$& emulated_lane = lane;');
  const storage = /var<storage, read> (\w+)/.exec(code)?.[1] ?? '';
  const width = /@workgroup_size\((\w+)\)/.exec(code)?.[1] ?? '';
  if (body.includes('emulated_across')) chunks.add(across);
  if (matrices) chunks.add(multiply);
  const [, inner = '16'] = /alias Left = subgroup_matrix_left<f16, (\d+), 16>/.exec(code) ?? [];
  const [, columns = '16'] = /alias Right = subgroup_matrix_right<f16, (\d+), \d+>/.exec(code) ?? [];
  return [
    body,
    `const EMULATED_COLUMNS = ${columns}u;`,
    `const EMULATED_QUADS = ${inner}u / 4u;`,
    ...[emulation, ...chunks].map((chunk) => chunk.replace('WORKGROUP', width).replace('STORAGE', storage)),
  ].join('\n');
}

/** The variable that a pointer in WGSL points into. */
export function rootOf(code: string, pointer: string): string {
  const name = /\w+/.exec(pointer)?.[0] ?? '';
  return new RegExp(`let ${name} = &(\\w+)`).exec(code)?.[1] ?? name;
}

/** The innermost arrays of a variable, where matrices lie: a pointer to one, what it holds, and how many of it, in WGSL. */
export function placesOf(
  code: string,
  name: string,
): { readonly type: string; readonly element: string; readonly length: string } {
  const [, space = '', access = '', outermost = ''] =
    new RegExp(`var<(\\w+)(, \\w+)?> ${name}: (array<[^;]*>);`).exec(code) ?? [];
  const meant = (type: string) => new RegExp(`alias ${type} = ([^;]*);`).exec(code)?.[1] ?? type;
  for (let type = outermost; ;) {
    const [, own = '', count] = /^array<(array<.*>|\w+)(?:, ([^>]*))?>$/.exec(type) ?? [];
    const element = meant(own);
    if (!element) throw new Error(`no array ${name}`);
    const length = count ? `(${count})` : 'arrayLength(places)';
    if (!element.startsWith('array<')) return { type: `ptr<${space}, ${type}${access}>`, element, length };
    type = element;
  }
}
