/** Rows of a panel. */
export const panelRows = 16;

/** Words of 4 bytes in which eight columns of a row lie. */
const eight = 4;

/**
 * Brings f16 rows into panels: `[rows / 16, columns / 8, 16, 8]`.
 * @param data bits, `[rows, columns]` with a multiple of 16 rows and of 8 columns
 */
export function inPanels(data: Uint16Array, columns: number): Uint32Array {
  const { buffer, byteOffset, length } = byteAligned(data);
  const from = new Uint32Array(buffer, byteOffset, length / 2);
  const to = new Uint32Array(from.length);
  const eights = columns / 8;
  const panelWords = panelRows * eights * eight;
  for (let at = 0, source = 0; at < to.length; at += panelWords) {
    for (let row = 0; row < panelRows; row++) {
      for (let i = 0; i < eights; i++, source += eight) {
        const target = at + (i * panelRows + row) * eight;
        for (let word = 0; word < eight; word++) to[target + word] = from[source + word] ?? 0;
      }
    }
  }
  return to;
}

/** The same values where a word may begin. */
function byteAligned(data: Uint16Array): Uint16Array {
  return data.byteOffset % 4 === 0 ? data : data.slice();
}

/**
 * A row of f16 in panels, as it was before {@link inPanels}.
 * @param panels bits of whole panels
 * @param row from the first of them on
 */
export function rowOfPanels(panels: Uint16Array, columns: number, row: number): Uint16Array {
  const values = new Uint16Array(columns);
  const first = (row - (row % panelRows)) * columns;
  for (let i = 0; i < columns / 8; i++) {
    const at = first + 8 * (i * panelRows + (row % panelRows));
    values.set(panels.subarray(at, at + 8), 8 * i);
  }
  return values;
}
