// Who imports whom. Fails where a package imports what it does not declare, where it imports a package that does not
// lie below it, and where imports inside a package close a circle. Run by `npm run check:deps`.
import { readdir, readFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

/** Package → the Ensample packages its sources may import. */
const allowed = {
  '@ensample/tensor': [],
  '@ensample/kv-cache': ['tensor'],
  '@ensample/bifurcated-attn': ['tensor', 'kv-cache'],
  '@ensample/spec-decode': ['tensor', 'kv-cache'],
  '@ensample/mixattn-model': ['tensor', 'kv-cache', 'bifurcated-attn'],
  '@ensample/model-js': ['mixattn-model'],
  '@ensample/runtime': ['tensor', 'kv-cache', 'bifurcated-attn', 'spec-decode'],
  ensample: ['tensor', 'kv-cache', 'bifurcated-attn', 'spec-decode', 'mixattn-model', 'model-js', 'runtime'],
  '@ensample/demo': ['tensor', 'mixattn-model', 'model-js', 'runtime'],
  '@ensample/testing': [
    'tensor',
    'kv-cache',
    'bifurcated-attn',
    'spec-decode',
    'mixattn-model',
    'model-js',
    'runtime',
  ],
  '@ensample/bench': [
    ...[
      'tensor',
      'kv-cache',
      'bifurcated-attn',
      'spec-decode',
      'mixattn-model',
      'model-js',
      'runtime',
      'testing',
    ],
  ],
};

const root = fileURLToPath(new URL('..', import.meta.url));
const rootTools = Object.keys((await manifest(root)).devDependencies);
const problems = [];
let importCount = 0;

const folders = await packageFolders();
for (const folder of folders) await checkPackage(folder);

for (const problem of problems) console.error(problem);
console.log(`${folders.length} packages, ${importCount} imports, ${problems.length} problems`);
process.exitCode = problems.length > 0 ? 1 : 0;

async function checkPackage(folder) {
  const { name, dependencies = {}, peerDependencies = {}, devDependencies = {} } = await manifest(folder);
  const below = allowed[name]?.map((short) => `@ensample/${short}`);
  if (!below) return void problems.push(`${name}: not in the table of .ci/check-dependencies.mjs`);

  const declared = [name, ...Object.keys({ ...dependencies, ...peerDependencies })];
  for (const dependency of declared) {
    if (dependency.startsWith('@ensample/') && dependency !== name && !below.includes(dependency))
      problems.push(`${name}: depends on ${dependency}, which does not lie below it`);
  }
  const sources = await importsOf(join(folder, 'src'));
  checkDeclared(sources, declared, 'dependencies');
  checkDeclared(await importsOf(join(folder, 'test')), [
    ...declared,
    ...Object.keys(devDependencies),
    ...rootTools,
  ]);
  checkCircles(sources);
}

/** Every bare import must be declared: pnpm links only that, but hoisting and the root's tools can hide a gap. */
function checkDeclared(files, declared, where = 'dependencies or devDependencies') {
  for (const [file, imports] of files) {
    for (const { specifier } of imports) {
      if (/^[.#]/.test(specifier) || isBuiltin(specifier)) continue; // # is the package's own import map
      const packageName = /^(@[^/]+\/)?[^/]+/.exec(specifier)[0];
      if (!declared.includes(packageName))
        problems.push(
          `${relative(root, file)}: imports ${packageName}, which is not among its package's ${where}`,
        );
    }
  }
}

/** Depth-first search; a file met again on the current path closes a circle. Types are gone at run time: no circle. */
function checkCircles(files) {
  const done = new Set();
  const visit = (file, path) => {
    const start = path.indexOf(file);
    if (start >= 0) {
      const circle = [...path.slice(start), file].map((member) => relative(root, member));
      problems.push(`circular import: ${circle.join(' → ')}`);
    }
    if (done.has(file)) return;
    done.add(file);
    const followed = (files.get(file) ?? []).filter(
      ({ specifier, typeOnly }) => specifier.startsWith('.') && !typeOnly,
    );
    for (const { specifier } of followed) visit(resolve(dirname(file), specifier), [...path, file]);
  };
  for (const file of files.keys()) visit(file, []);
}

/** File → its imports, re-exports and dynamic imports. */
async function importsOf(folder) {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const files = new Map();
  for (const name of names.filter((name) => /\.tsx?$/.test(name))) {
    const text = await readFile(join(folder, name), 'utf8');
    const imports = ts.preProcessFile(text, true, true).importedFiles.map(({ fileName: specifier, pos }) => {
      const statement = text.slice(text.lastIndexOf(';', pos) + 1, pos).trimStart();
      return { specifier, typeOnly: /(^|\n)(import|export) type /.test(statement) };
    });
    files.set(join(folder, name), imports);
    importCount += imports.length;
  }
  return files;
}

async function packageFolders() {
  const groups = ['packages', 'apps'].map(async (group) => {
    const names = await readdir(join(root, group));
    return names.map((name) => join(root, group, name));
  });
  const folders = (await Promise.all(groups)).flat();
  const present = await Promise.all(folders.map((folder) => manifest(folder).catch(() => undefined)));
  return folders.filter((_, index) => present[index]);
}

async function manifest(folder) {
  return JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
}
