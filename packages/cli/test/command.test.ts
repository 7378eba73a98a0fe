import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const main = fileURLToPath(new URL('../dist/main.js', import.meta.url));
const exec = promisify(execFile);

beforeAll(async () => {
  if (!existsSync(main)) await exec('npm', ['run', '--silent', 'build'], { cwd: root });
});

it('runs as a program that ends by itself', async () => {
  const args = ['generate', 'const a = ', '--n', '2', '--max-tokens', '4', '--json'];
  const { stdout } = await exec('node', [main, ...args]);
  expect(JSON.parse(stdout).samples).toHaveLength(2);
});

it('ends with 130 on Ctrl-C', async () => {
  const child = spawn('node', [main, 'generate', '-'], { stdio: 'pipe' });
  const code = new Promise((resolve) => child.once('exit', resolve));
  await new Promise((resolve) => child.stdin.write('x'.repeat(2 ** 20), resolve)); // more than a pipe holds: it reads
  child.kill('SIGINT');
  expect(await code).toBe(130);
});
