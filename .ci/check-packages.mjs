// What a user gets: builds and packs every public package, checks each tarball (publint, attw), installs all of them
// with npm outside the workspace, runs the command there, and weighs the browser bundle. Run by `npm run check:packages`.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const BUNDLE_LIMIT = 73_000; // bytes, gzip -9

const root = fileURLToPath(new URL('..', import.meta.url));
const binFolder = join(root, 'node_modules', '.bin');
const bin = (name) => join(binFolder, name);
const work = await mkdtemp(join(tmpdir(), 'ensample-packages-'));
const packages = await publicPackages();
const counts = { passed: 0, failed: 0 };

if (await check('build', buildAll)) {
  const tarballs = await packAll();
  for (const [name, file] of tarballs) {
    await check(`publint ${name}`, () => run(bin('publint'), ['run', file, '--strict']));
    await check(`attw ${name}`, () =>
      run(bin('attw'), [file, '--profile', 'esm-only', '--no-emoji', '--quiet']),
    );
  }
  await check('bundle size', bundleSize);
  await check('install and run', () => installAndRun([...tarballs.values()]));
}
await rm(work, { recursive: true, force: true });
console.log(`${counts.passed} passed, ${counts.failed} failed`);
process.exitCode = counts.failed > 0 ? 1 : 0;

async function check(name, step) {
  try {
    const note = await step();
    counts.passed++;
    console.log(`ok   ${name}${typeof note === 'string' ? `: ${note}` : ''}`);
    return true;
  } catch (error) {
    counts.failed++;
    console.error(`FAIL ${name}: ${error.message}\n${error.stdout ?? ''}${error.stderr ?? ''}`);
    return false;
  }
}

/** From scratch: a file whose source is gone must not be packed. */
async function buildAll() {
  for (const { folder } of packages) await rm(join(folder, 'dist'), { recursive: true, force: true });
  await run(bin('turbo'), [
    'run',
    'build',
    '--filter=./packages/*',
    '--force',
    '--output-logs=errors-only',
    '--no-update-notifier',
  ]);
}

/** @returns package name → tarball */
async function packAll() {
  const tarballs = new Map();
  for (const { name, folder } of packages) {
    const destination = join(work, name);
    await mkdir(destination, { recursive: true });
    await run(bin('pnpm'), ['pack', '--pack-destination', destination], folder);
    const [file] = await readdir(destination);
    tarballs.set(name, join(destination, file));
  }
  return tarballs;
}

/** The engine and the model code for browsers; tokenizer and weights are loaded apart. */
async function bundleSize() {
  const contents = `export { createEngine } from '@ensample/runtime'; export * from '@ensample/mixattn-model';`;
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: join(root, 'packages', 'cli') },
    external: ['@huggingface/tokenizers'],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    platform: 'browser',
  });
  const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  const note = `${(bytes / 1000).toFixed(1)} KB of ${BUNDLE_LIMIT / 1000} KB, gzip -9`;
  if (bytes > BUNDLE_LIMIT) throw new Error(note);
  return note;
}

async function installAndRun(tarballs) {
  const project = join(work, 'project');
  await mkdir(project);
  await writeFile(join(project, 'package.json'), '{ "private": true, "type": "module" }\n');
  await run(
    'npm',
    ['install', '--no-audit', '--no-fund', ...tarballs, '@sparticuz/chromium@153.0.0'],
    project,
  );

  const prompt = 'export function clamp(';
  const args = ['ensample', 'generate', prompt, '--n', '2', '--max-tokens', '8', '--seed', '7', '--json'];
  const { stdout } = await run('npx', ['--no-install', ...args], project);
  const { samples } = JSON.parse(stdout);
  const good = samples.filter(({ text, tokens }) => typeof text === 'string' && tokens.length > 0);
  if (good.length !== 2) throw new Error(`expected 2 samples, got ${stdout}`);
  return `${good.length} samples from the installed command`;
}

async function publicPackages() {
  const folders = (await readdir(join(root, 'packages'))).map((name) => join(root, 'packages', name));
  const manifests = await Promise.all(
    folders.map((folder) => readFile(join(folder, 'package.json'), 'utf8')),
  );
  const all = manifests.map((text, index) => ({ ...JSON.parse(text), folder: folders[index] }));
  return all.filter((manifest) => !manifest.private);
}

/** Resolves with { stdout, stderr }; a failure's error carries both. */
function run(command, args, cwd = root) {
  const env = { ...process.env, PATH: `${binFolder}:${process.env.PATH}` }; // turbo looks for pnpm there
  return promisify(execFile)(command, args, { cwd, env, maxBuffer: 1 << 26 });
}
