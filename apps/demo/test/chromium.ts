import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliDecompressSync } from 'node:zlib';
import { chromium, type Browser } from 'playwright-core';

const quiet = [
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-quic',
  '--disable-sync',
];

/** Chromium with WebGPU on SwiftShader, out of npm `@sparticuz/chromium`: it needs no root and no library of the system. */
export async function launchChromium(): Promise<Browser> {
  const folder = unpackOnce();
  return chromium.launch({
    executablePath: join(folder, 'chromium'),
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--no-first-run', ...quiet],
    env: { ...(process.env as Record<string, string>), LD_LIBRARY_PATH: join(folder, 'al2023', 'lib') },
  });
}

/** The browser, its driver beside it, and the libraries it needs, unpacked into a cache below node_modules. */
function unpackOnce(): string {
  const entry = createRequire(import.meta.url).resolve('@sparticuz/chromium'); // <package>/build/index.js
  const carrier = join(dirname(entry), '..');
  const { version } = JSON.parse(readFileSync(join(carrier, 'package.json'), 'utf8')) as { version: string };
  const cache = fileURLToPath(new URL('../node_modules/.cache', import.meta.url));
  const folder = join(cache, `chromium-${version}`);
  if (existsSync(folder)) return folder;

  mkdirSync(cache, { recursive: true });
  const draft = mkdtempSync(join(cache, 'unpack-'));
  const bytes = (name: string) => brotliDecompressSync(readFileSync(join(carrier, 'bin', name)));
  writeFileSync(join(draft, 'chromium'), bytes('chromium.br'), { mode: 0o755 });
  for (const [name, target] of [
    ['swiftshader.tar.br', draft],
    ['al2023.tar.br', join(draft, 'al2023')],
  ] as const) {
    mkdirSync(target, { recursive: true });
    execFileSync('tar', ['-x', '-C', target], { input: bytes(name) });
  }
  try {
    renameSync(draft, folder);
  } catch (error) {
    rmSync(draft, { recursive: true, force: true });
    if (!existsSync(folder)) throw error; // else another process was faster
  }
  return folder;
}
