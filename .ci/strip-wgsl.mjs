// Shortens built shaders: `node strip-wgsl.mjs dist` rewrites every *.wgsl.js without WGSL comments, indentation and spaces that mean nothing.
// Shader modules import nothing and export strings only (the linter sees to it), so each can be loaded and printed anew.
import { readdir, rm, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const dist = resolve(process.argv[2] ?? 'dist');

for (const name of await readdir(dist, { recursive: true })) {
  if (!name.endsWith('.wgsl.js')) continue;
  const file = resolve(dist, name);
  const shaders = Object.entries(await import(pathToFileURL(file).href));
  await writeFile(
    file,
    shaders.map(([key, code]) => `export const ${key} = ${JSON.stringify(strip(code))};\n`).join(''),
  );
  await rm(`${file}.map`, { force: true });
}

/**
 * WGSL without comments, indentation, empty lines, and spaces around marks that no other mark can grow together with. WGSL has
 * no strings, so a comment mark is always a comment.
 */
function strip(code) {
  const bare = code.replace(/\/\*[^]*?\*\//g, ' ').replace(/\/\/.*/g, '');
  const lines = bare.split('\n').map((line) => line.trim().replace(/ *(->|&&|\|\||[,;:(){}]) */g, '$1'));
  return lines.filter((line) => line !== '').join('\n');
}
