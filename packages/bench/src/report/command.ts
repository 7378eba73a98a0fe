import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { defineCommand, type SubCommandsDef } from 'citty';
import { report, withReport } from './document.ts';
import { readMeasured } from './measured.ts';

/** `bench report` */
export const reportCommand: SubCommandsDef[string] = defineCommand({
  meta: {
    name: 'report',
    description:
      'Writes tables and plots from the results of `bench gpu` and of the anchor into the documentation',
  },
  args: {
    results: { type: 'string', description: 'folder of the JSON files', default: 'packages/bench/results' },
    document: { type: 'string', description: 'Markdown file with markers', default: 'docs/performance.md' },
    check: { type: 'boolean', description: 'only say whether the files are up to date', default: false },
  },
  async run({ args }) {
    const stale: string[] = [];
    for (const [path, text] of await reportFiles(args.results, args.document)) {
      if ((await readFile(path, 'utf8').catch(() => '')) === text) continue;
      stale.push(path);
      if (args.check) continue;
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, text);
    }
    for (const path of stale) console.log(`${args.check ? 'not up to date' : 'written'}: ${path}`);
    if (args.check && stale.length > 0) process.exitCode = 1;
  },
});

/** Path and content of every file that the report consists of. */
export async function reportFiles(
  results: string,
  document: string,
): Promise<[path: string, text: string][]> {
  const made = report(await readMeasured(results));
  const plots = made.plots.map(({ name, svg }): [string, string] => [
    join(dirname(document), 'plots', name),
    svg,
  ]);
  return [[document, withReport(await readFile(document, 'utf8'), made)], ...plots];
}
