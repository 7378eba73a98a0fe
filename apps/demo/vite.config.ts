import { cpSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defaultClientConditions, defineConfig, type UserConfig } from 'vite';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
const publicDir = path('node_modules/.public');

/** What the page downloads of the model and its draft; the package has more in their folders. */
for (const name of ['js-22m', 'js-1m-draft']) {
  for (const file of ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors']) {
    const model = `models/${name}/${file}`;
    cpSync(path(`../../packages/model-js/${model}`), `${publicDir}/${model}`);
  }
}

const config: UserConfig = defineConfig({
  root: path('.'),
  base: './', // works in any folder of a site
  publicDir,
  resolve: { conditions: ['@ensample/source', ...defaultClientConditions] }, // packages need no build
  build: { target: 'es2022', emptyOutDir: true },
});
export default config;
