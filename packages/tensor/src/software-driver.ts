import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { constants, homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';

/** The npm package that carries SwiftShader and a Vulkan loader: 1.6 MB of it are read, Chromium itself is not. */
const CARRIER = '@sparticuz/chromium';
const LOADER = 'libvulkan.so.1';
const MANIFEST = 'vk_swiftshader_icd.json';
const WANTED: readonly string[] = [LOADER, MANIFEST, 'libvk_swiftshader.so'];

/**
 * Adds SwiftShader, a Vulkan driver that runs on the CPU, to the drivers this process can see. It is read from
 * the npm package `@sparticuz/chromium` (Linux x64) and unpacked once into the user's cache folder; neither root
 * nor a Vulkan loader on the system is needed. Drivers of the system stay visible.
 *
 * @returns false where the package is not installed, or the platform has no such driver.
 */
export function addSoftwareDriver(): boolean {
  const archive = findArchive();
  if (archive === undefined) return false;
  const folder = unpackOnce(readFileSync(archive));
  exposeDriver(join(folder, MANIFEST));
  if (!hasVulkanLoader()) loadLibrary(join(folder, LOADER));
  return true;
}

/** True where a Vulkan loader is, or can be, loaded. Other platforms than Linux bring their own GPU API. */
export function hasVulkanLoader(): boolean {
  return process.platform !== 'linux' || loadLibrary(LOADER);
}

/** Loads a shared library for good, so that a later dlopen by its soname finds it. */
function loadLibrary(file: string): boolean {
  const keepLoaded = 0x1000; // RTLD_NODELETE, which node:os does not name
  const { RTLD_NOW, RTLD_GLOBAL } = constants.dlopen;
  try {
    process.dlopen({ exports: {} }, file, RTLD_NOW | RTLD_GLOBAL | keepLoaded);
  } catch (error) {
    // A library that is no Node addon loads, stays loaded, and then makes dlopen throw this.
    return String(error).includes('did not self-register');
  }
  return true;
}

/** Tells the Vulkan loader about one more driver. `VK_DRIVER_FILES`, where set, hides all others. */
function exposeDriver(manifest: string): void {
  const variable = process.env['VK_DRIVER_FILES'] ? 'VK_DRIVER_FILES' : 'VK_ADD_DRIVER_FILES';
  const files = (process.env[variable] ?? '').split(':').filter((file) => file !== '');
  if (!files.includes(manifest)) process.env[variable] = [...files, manifest].join(':');
}

/** The archive inside the carrier, as seen from this file, from the running program, or from the current folder. */
function findArchive(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return undefined;
  const program = process.argv[1];
  const bases = [import.meta.url, join(process.cwd(), 'here.js')];
  if (program !== undefined && existsSync(program)) bases.push(realpathSync(program));
  for (const base of bases) {
    try {
      const entry = createRequire(base).resolve(CARRIER); // <package>/build/index.js
      const archive = join(dirname(entry), '..', 'bin', 'swiftshader.tar.br');
      if (existsSync(archive)) return archive;
    } catch {
      // Not to be seen from here: try the next base.
    }
  }
  return undefined;
}

/** Unpacks the driver into a folder named by its content. Several processes may do so at once: a rename decides. */
function unpackOnce(archive: Uint8Array): string {
  const id = createHash('sha256').update(archive).digest('hex').slice(0, 16);
  const cache = cacheFolder();
  const folder = join(cache, `swiftshader-${id}`);
  if (existsSync(folder)) return folder;
  const draft = mkdtempSync(join(cache, 'unpack-'));
  for (const [name, bytes] of tarEntries(brotliDecompressSync(archive))) {
    if (WANTED.includes(name)) writeFileSync(join(draft, name), bytes, { mode: 0o755 });
  }
  try {
    renameSync(draft, folder);
  } catch (error) {
    rmSync(draft, { recursive: true, force: true });
    if (!existsSync(folder)) throw error;
  }
  return folder;
}

/** `$XDG_CACHE_HOME/ensample`, or a private folder among the temporary files where the home cannot be written. */
function cacheFolder(): string {
  try {
    const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'ensample');
    mkdirSync(cache, { recursive: true, mode: 0o700 });
    rmSync(mkdtempSync(join(cache, 'probe-')), { recursive: true });
    return cache;
  } catch {
    const uid = process.getuid?.() ?? 0;
    const fallback = join(tmpdir(), `ensample-${uid}`);
    mkdirSync(fallback, { recursive: true, mode: 0o700 });
    const { uid: owner, mode } = statSync(fallback);
    if (owner === uid && (mode & 0o022) === 0) return fallback;
    return mkdtempSync(join(tmpdir(), 'ensample-')); // somebody else's folder: code is not loaded from there
  }
}

/** Plain files of a tar archive: 512-byte headers with the name at 0, the size in octal at 124, the kind at 156. */
function* tarEntries(tar: Buffer): Generator<[name: string, bytes: Buffer]> {
  const text = (from: number, to: number): string => tar.toString('latin1', from, to).split('\0', 1)[0] ?? '';
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0;) {
    const size = parseInt(text(at + 124, at + 136), 8);
    const plainFile = tar[at + 156] === 0x30 || tar[at + 156] === 0;
    if (plainFile) yield [text(at, at + 100).replace(/^\.\//, ''), tar.subarray(at + 512, at + 512 + size)];
    at += 512 + Math.ceil(size / 512) * 512;
  }
}
