/** A cell; undefined is what was not measured. */
export type Cell = string | number | undefined;

/** A Markdown table under a line of bold text; nothing where there are no rows. */
export function titled(
  title: string,
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
): string[] {
  if (rows.length === 0) return [];
  const lines = [
    header,
    header.map(() => '---'),
    ...rows.map((row) => row.map((cell) => String(cell ?? '–'))),
  ];
  return [`**${title}**`, lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')];
}

/** Three digits that count, at most two of them after the point: 0.05, 7.31, 12.6, 148. */
export function short(value: number | undefined): string | undefined {
  return value?.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

/** 0.553 as 55 %; with one digit below 10 %. */
export function percent(value: number | undefined): string | undefined {
  return value === undefined ? undefined : `${(100 * value).toFixed(Math.abs(value) < 0.0995 ? 1 : 0)} %`;
}

/** 1.5 as 1.50×. */
export function times(value: number | undefined): string | undefined {
  return value === undefined ? undefined : `${short(value) ?? ''}×`;
}

/** Bytes in MiB or GiB. */
export function bytes(value: number): string {
  const [unit, size] = value < 2 ** 30 ? ['MiB', 2 ** 20] : ['GiB', 2 ** 30];
  return `${short(value / size) ?? ''} ${unit}`;
}
