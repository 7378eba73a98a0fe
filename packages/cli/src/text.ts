/** Text for a terminal: control characters, which could move the cursor or worse, are shown as `�`. */
export function printable(text: string): string {
  return text.replace(/(?![\n\t])\p{Cc}/gu, '�');
}

/** Text on one line: newlines become `⏎`. */
export function oneLine(text: string): string {
  return printable(text.replaceAll('\t', ' ').replaceAll('\n', '⏎'));
}

/** The last lines of a text, after a line with `…` where there are more. */
export function lastLines(text: string, count: number): string {
  const lines = text.split('\n');
  return lines.length > count ? ['…', ...lines.slice(-count)].join('\n') : text;
}

/** Bytes with a unit a person can read: `1.25 MB`. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
  const value = count / 1000 ** power;
  return `${power === 0 ? value.toFixed(0) : value.toPrecision(3)} ${units[power] ?? ''}`;
}
