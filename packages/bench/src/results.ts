import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Device } from '@ensample/tensor';

/** Where and when a benchmark ran. */
export interface Setting {
  readonly device: string;
  readonly driver: string;
  readonly tier: string;
  readonly date: string;
}

/** Describes a device for a result file; some drivers do not tell the card's name, so it can be given. */
export function settingOf({ info, tier }: Device, name?: string): Setting {
  return {
    device: name ?? (info.description.split(':')[0] || info.architecture || 'unknown'),
    driver: info.description,
    tier: tier.name,
    date: new Date().toISOString().slice(0, 10),
  };
}

/** A name as part of a file's: lower case, words joined by hyphens. */
export function slugOf(name: string): string {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/-$/, '');
}

/** Writes `<folder>/<benchmark>-<device>-<tier>.json` and returns its path. */
export async function writeResult(
  folder: string,
  benchmark: string,
  setting: Setting,
  rows: unknown,
): Promise<string> {
  const slug = slugOf(`${benchmark}-${setting.device}-${setting.tier}`);
  await mkdir(folder, { recursive: true });
  const path = join(folder, `${slug}.json`);
  await writeFile(path, JSON.stringify({ benchmark, ...setting, rows }, null, 2) + '\n');
  return path;
}

/** A plain-text table: first row of keys, numbers to the right. */
export function table(rows: readonly Readonly<Record<string, string | number>>[]): string {
  const keys = Object.keys(rows[0] ?? {});
  const cells = [keys, ...rows.map((row) => keys.map((key) => String(row[key] ?? '')))];
  const widths = keys.map((_, i) => Math.max(...cells.map((line) => (line[i] ?? '').length)));
  return cells.map((line) => line.map((cell, i) => cell.padStart(widths[i] ?? 0)).join('  ')).join('\n');
}

/** The middle value. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;
}
