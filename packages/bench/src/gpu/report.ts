import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Device } from '@ensample/tensor';
import { settingOf, slugOf, type Setting } from '../results.ts';

/** One result; which section it is of says what fields it has. */
export type Row = { readonly section: string } & Readonly<Record<string, unknown>>;

/** Fields that say what was measured; the others say what came out. */
const identity = [
  ...['section', 'shape', 'weights', 'context', 'n', 'rows', 'outputs', 'columns', 'tokens', 'layers'],
  ...['vocab', 'acceptance', 'length', 'preset', 'way'],
];

/** Where results go. */
export interface ReportOptions {
  readonly results: string;
  /** The device's name; default: its driver's. */
  readonly name?: string | undefined;
  /** Whether shaders check the bounds of their accesses. */
  readonly robustness: boolean;
  readonly log?: (line: string) => void;
}

type GpuSetting = Setting & { readonly robustness: boolean };

/** The result file of a device, written anew after every row, so that a run cut off keeps what it had. */
export class Report {
  readonly path: string;
  readonly rows: Row[] = [];
  /** What was not measured, and why. */
  readonly skipped: string[] = [];
  readonly log: (line: string) => void;
  readonly #setting: GpuSetting;

  private constructor(path: string, setting: GpuSetting, log: (line: string) => void) {
    this.path = path;
    this.#setting = setting;
    this.log = log;
  }

  /** Rows that the file has already stay, until they are measured again. */
  static async open(device: Device, options: ReportOptions): Promise<Report> {
    const { results, name, robustness, log = console.log } = options;
    const setting = { ...settingOf(device, name), robustness };
    const slug = slugOf(`gpu-${setting.device}-${setting.tier}${robustness ? '' : '-unchecked'}`);
    const report = new Report(join(results, `${slug}.json`), setting, log);
    const known = await readFile(report.path, 'utf8').catch(() => '{}');
    report.rows.push(...((JSON.parse(known) as { rows?: Row[] }).rows ?? []));
    return report;
  }

  /** The device's name. */
  get device(): string {
    return this.#setting.device;
  }

  /** The row with these fields, if there is one. */
  find(fields: Row): Row | undefined {
    return this.rows.find((row) => Object.entries(fields).every(([key, value]) => row[key] === value));
  }

  /** Adds a result, or replaces the one of the same measurement. */
  async add(row: Row): Promise<void> {
    const same = this.rows.findIndex((other) => identity.every((key) => other[key] === row[key]));
    if (same >= 0) this.rows.splice(same, 1, row);
    else this.rows.push(row);
    this.log(lineOf(row));
    await this.#write();
  }

  /** Notes that something was not measured. */
  async skip(what: string, reason: string): Promise<void> {
    this.skipped.push(`${what}: ${reason}`);
    this.log(`skipped ${what}: ${reason}`);
    await this.#write();
  }

  async #write(): Promise<void> {
    const { rows, skipped } = this;
    await mkdir(dirname(this.path), { recursive: true });
    const content = { benchmark: 'gpu', ...this.#setting, skipped, rows };
    await writeFile(this.path, JSON.stringify(content, null, 2) + '\n');
  }
}

function lineOf(row: Row): string {
  const shown = Object.entries(row).map(([key, value]) => {
    if (typeof value === 'number') return `${key} ${Number(value.toPrecision(4))}`;
    return key === 'section' ? String(value) : `${key} ${String(value)}`;
  });
  return shown.join('  ');
}
