import { open, readFile, stat, type FileHandle } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InvalidModelError } from '@ensample/tensor';
import { parseJson, type ModelFiles } from './files.ts';
import type { ByteSource } from './safetensors.ts';

/**
 * A model's files in a folder on disk, as Hugging Face lays them out. Bytes are read when asked for, not whole files.
 *
 * @throws InvalidModelError (from the promises) naming the path
 */
export function diskFiles(folder: string | URL): ModelFiles {
  const root = resolve(folder instanceof URL ? fileURLToPath(folder) : folder);
  return {
    name: basename(root),
    json: async (file) => {
      const path = join(root, file);
      return parseJson(await reading(root, path, () => readFile(path, 'utf8')), path);
    },
    bytes: async (file) => {
      const path = join(root, file);
      return fileSource(await reading(root, path, () => open(path)), path);
    },
  };
}

/** Runs `read`; its failure becomes an error that says which path is missing or unreadable. */
async function reading<T>(root: string, path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    const folder = await stat(root).catch(() => undefined);
    if (!folder?.isDirectory()) {
      throw new InvalidModelError(`There is no model folder ${root}: check the path.`, { cause });
    }
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    const what = missing
      ? 'is missing: is the folder a complete Hugging Face model?'
      : `cannot be read: ${String(cause)}`;
    throw new InvalidModelError(`${path} ${what}`, { cause });
  }
}

async function fileSource(handle: FileHandle, path: string): Promise<ByteSource> {
  const { size } = await handle.stat();
  return {
    size,
    read: async (offset, length) => {
      const bytes = new Uint8Array(length);
      for (let filled = 0; filled < length;) {
        const { bytesRead } = await handle.read(bytes, filled, length - filled, offset + filled);
        if (bytesRead === 0)
          throw new InvalidModelError(
            `${path} ends at byte ${offset + filled}: was it changed while in use?`,
          );
        filled += bytesRead;
      }
      return bytes;
    },
    close: () => handle.close(),
  };
}
