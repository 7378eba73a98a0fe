import { fileURLToPath } from 'node:url';
import {
  createTokenizer,
  openSafetensors,
  openWeights,
  parseConfig,
  type ModelFiles,
} from '@ensample/mixattn-model';
import { build } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { packagedFiles } from '../src/files-browser.ts';
import { js1mDraft, js22m } from '../src/index.ts';

interface Golden {
  cases: { prompt: string; ids: number[] }[];
}

const tokenizerOf = async (files: ModelFiles) =>
  createTokenizer(await files.json('tokenizer.json'), await files.json('tokenizer_config.json'));
const SPECIAL = ['<|end|>', '<|file|>', '<|fim_prefix|>', '<|fim_suffix|>', '<|fim_middle|>'];

describe.each([js22m(), js1mDraft()])('$name', (source) => {
  it('is a whole model in this package', async () => {
    const files = source.files();
    expect(files.name).toBe(source.name);
    const config = parseConfig(await files.json('config.json'));
    const file = await openSafetensors(await files.bytes('model.safetensors'), 'model.safetensors');
    const layer = await openWeights(config, file).layer(config.layers.length - 1);
    expect(layer.down).toMatchObject({
      format: 'int8',
      rows: config.hiddenSize,
      columns: config.intermediateSize,
    });
    await file.close();
    expect((await tokenizerOf(files)).vocabSize).toBe(config.vocabSize);
  });

  it('frames prompts as the golden results do', async () => {
    const files = source.files();
    const tokenizer = await tokenizerOf(files);
    for (const { prompt, ids } of ((await files.json('golden.json')) as Golden).cases) {
      const [, fileName = '', text = ''] = /^<\|file\|>(.*)\n([^]*)$/.exec(prompt) ?? [];
      expect(source.frame.encode(tokenizer, { text, fileName })).toEqual(ids);
    }
  });
});

describe('codeFrame', () => {
  it('names the file index.ts, and keeps special tokens out of the text', async () => {
    const tokenizer = await tokenizerOf(js22m().files());
    const text = SPECIAL.join('\n');
    const ids = js22m().frame.encode(tokenizer, { text });
    expect(ids.filter((id) => id < 5)).toEqual([1]);
    expect(tokenizer.decode(ids)).toBe(`index.ts\n${text}`);
  });

  it('fills in the middle: prefix, suffix, then the gap, as in training', async () => {
    const tokenizer = await tokenizerOf(js22m().files());
    const prompt = { text: 'let a = ', suffix: ';<|end|>', fileName: 'a.js' };
    const ids = js22m().frame.encode(tokenizer, prompt);
    expect(ids.map((id) => tokenizer.token(id)).join('')).toBe(
      '<|fim_prefix|><|file|>a.js\nlet a = <|fim_suffix|>;<|end|><|fim_middle|>',
    );
    expect(ids.filter((id) => id < 5)).toEqual([2, 1, 3, 4]);
    const empty = js22m().frame.encode(tokenizer, { text: '', suffix: '' });
    expect(empty.slice(-2)).toEqual([3, 4]);
  });
});

describe('where files come from', () => {
  const fetch = (url: unknown): Promise<Response> => Promise.resolve(Response.json(String(url)));

  it.each(['https://host/models', 'https://host/models/', new URL('https://host/models/')])(
    'baseUrl %s',
    async (baseUrl) => {
      const target = js22m({ baseUrl });
      expect(await target.files({ fetch }).json('config.json')).toBe(
        'https://host/models/js-22m/config.json',
      );
      const draft = target.draft?.().files({ fetch });
      expect(await draft?.json('config.json')).toBe('https://host/models/js-1m-draft/config.json');
    },
  );

  it('the package itself in browsers', async () => {
    const url = new URL('../models/js-22m/config.json', import.meta.url).href;
    expect(await packagedFiles('js-22m', { fetch }).json('config.json')).toBe(url);
  });

  it.each([
    ['browser', 'files-browser.ts', ['@ensample/mixattn-model']],
    ['node', 'files-node.ts', ['@ensample/mixattn-model', '@ensample/mixattn-model/node']],
  ] as const)('a %s bundle holds %s', async (platform, file, imports) => {
    const { metafile } = await build({
      entryPoints: [fileURLToPath(new URL('../src/index.ts', import.meta.url))],
      ...{ platform, bundle: true, format: 'esm', write: false, metafile: true },
      conditions: ['@ensample/source'],
      external: ['@ensample/*'],
    });
    const names = Object.keys(metafile.inputs).map((path) => path.split('/').at(-1));
    expect(names.sort()).toEqual([file, 'frame.ts', 'index.ts']);
    const imported = Object.values(metafile.outputs).flatMap((output) =>
      output.imports.map(({ path }) => path),
    );
    expect([...new Set(imported)].sort()).toEqual(imports);
  });
});
