import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createTokenizer, Decoder, openSafetensors, openWeights } from '@ensample/mixattn-model';
import { diskFiles } from '@ensample/mixattn-model/node';
import {
  decoderReference,
  expectClose,
  expectNoErrors,
  expectNothingAllocated,
  logSoftmaxReference,
  nullDevice,
  testDevice,
  tinyFiles,
  tinyModel,
  tolerance,
} from '@ensample/testing';
import { tiers, type Device, type TierName } from '@ensample/tensor';
import { afterAll, describe, expect, test } from 'vitest';
import { checkIntegrity } from '../src/quality/download.ts';
import { LossRun } from '../src/quality/loss-run.ts';
import { textPackages } from '../src/quality/packages.ts';
import { measureQuality } from '../src/quality/quality.ts';
import { gapsWithin, mostRows, plainRows, spanRows, type TextRow } from '../src/quality/rows.ts';
import { readSources } from '../src/quality/sources.ts';
import { encodeSources, formatSources, parseSources } from '../src/quality/text.ts';

const modelFolder = new URL('../../model-js/', import.meta.url);
const folder = await mkdtemp(join(tmpdir(), 'ensample-quality-'));
afterAll(() => rm(folder, { recursive: true }));

/** A text in which each token says where it stands. */
const numbered = (length: number) => Uint32Array.from({ length }, (_, i) => i);

describe('text', () => {
  const sources = [
    { name: 'a.ts', text: 'export const a = 1;\n' },
    { name: 'b.js', text: 'let two = `<|fim_middle|>\n\n<|file|>é`;' },
  ];

  test('a data file gives back its sources', () => {
    expect(parseSources(formatSources(sources))).toEqual(sources);
  });

  test('another file is refused', () => {
    expect(() => parseSources('export const a = 1;\n')).toThrow('must be sources of the form');
    expect(() => parseSources('<|file|>a.ts\n1<|end|><|file|>')).toThrow('must be sources of the form');
    expect(() => parseSources('<|file|>a.ts\n1<|end|>b.ts\n2<|end|>')).toThrow('source 1');
  });

  test('is framed as in training, and what looks like a special token stays text', async () => {
    const files = diskFiles(new URL('models/js-22m', modelFolder));
    const [json, config] = [await files.json('tokenizer.json'), await files.json('tokenizer_config.json')];
    const tokenizer = createTokenizer(json, config);
    const { tokens, bytes } = encodeSources(sources, tokenizer, { eosTokenIds: [0, 7] });
    const [first, second] = sources.map(({ name, text }) => tokenizer.encode(`${name}\n${text}`));
    expect([...tokens]).toEqual([1, ...first!, 0, 1, ...second!, 0]);
    expect(bytes).toBe(5 + 20 + 5 + 39);
    const plain = { ...(json as object), added_tokens: [] };
    const bare = encodeSources(sources, createTokenizer(plain, config), { eosTokenIds: [] });
    expect([...bare.tokens].filter((id) => id < 5)).toEqual([]);
    expect(bare.bytes).toBe(bytes);
  });
});

describe('packages', () => {
  test('none is from a repository that js-22m was trained on', async () => {
    const readme = await readFile(new URL('README.md', modelFolder), 'utf8');
    const trained = new Set(readme.split(/[^\w./-]+/));
    expect(trained).toContain('mikro-orm/mikro-orm');
    expect(textPackages.filter(({ repository }) => trained.has(repository))).toEqual([]);
  });

  test('an archive other than the recorded one is refused', async () => {
    const archive = join(folder, 'a.tgz');
    await writeFile(archive, 'abc');
    const integrity =
      'sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==';
    const wanted = { name: 'a', version: '1.0.0', integrity };
    await checkIntegrity(archive, wanted);
    await writeFile(archive, 'abd');
    await expect(checkIntegrity(archive, wanted)).rejects.toThrow('a@1.0.0 has the integrity sha512-');
  });

  test('sources in the order of their paths, without tests, declarations, minified and generated code', async () => {
    const code = 'export function add(a, b) {\n  return a + b;\n}\n'.repeat(2); // 92 bytes
    const files: Record<string, string> = {
      'z.mjs': code.replaceAll('\n', '\r\n'),
      'b/y.tsx': code,
      'b/large.js': code.repeat(3),
      'a.d.ts': code,
      'a.min.js': code,
      'a.test.ts': code,
      'test/a.js': code,
      'b/dist/a.js': code,
      'a.json': code,
      'short.js': 'a',
      'line.js': `${code}${'x'.repeat(1001)}\n`,
      'mean.js': `${'x'.repeat(400)}\n`.repeat(3),
      'generated.js': `// @generated\n${code}`,
      'special.js': `'<|end|>'\n${code}`,
    };
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(folder, 'package', path)), { recursive: true });
      await writeFile(join(folder, 'package', path), text);
    }
    const names = async (most: number) =>
      (await readSources(join(folder, 'package'), most)).map(({ name }) => name);
    expect(await names(1e6)).toEqual(['large.js', 'y.tsx', 'z.mjs']);
    expect(await names(200)).toEqual(['y.tsx', 'z.mjs']);
    expect((await readSources(join(folder, 'package'), 200))[1]?.text).toBe(code);
  });
});

describe('rows', () => {
  const text = numbered(2000);
  const options = { length: 512, count: 3 };

  test('plain rows are spread over the whole text, and each has a token more than is read', () => {
    const rows = plainRows(text, options);
    expect(rows.map(({ tokens, from }) => [tokens[0], tokens.at(-1), from])).toEqual([
      [0, 512, 1],
      [743, 1255, 1],
      [1487, 1999, 1],
    ]);
    expect(mostRows(text, 512)).toBe(3);
    expect(mostRows(numbered(1537), 512)).toBe(3);
    expect(mostRows(numbered(1536), 512)).toBe(2);
  });

  test('as many rows as there may be do not overlap', () => {
    const rows = plainRows(numbered(1538), { length: 256, count: 6 });
    rows
      .slice(1)
      .forEach(({ tokens }, i) => expect(tokens[0]).toBeGreaterThanOrEqual(rows[i]!.tokens.at(-1)!));
  });

  test('a span stands at the end and the gap before it, and is from elsewhere; the rest is the plain row', () => {
    expect(gapsWithin(512)).toEqual([128, 256]);
    expect(gapsWithin(2048)).toEqual([128, 256, 512, 1024, 1536]);
    for (const gap of [128, 256, undefined]) {
      const plain = plainRows(text, options);
      spanRows(text, options, gap).forEach(({ tokens, from }, i) => {
        expect(tokens).toHaveLength(512);
        expect(from).toBe(512 - 128 + 16);
        const own = plain[i]!.tokens;
        const span = tokens.slice(384);
        expect(span).toEqual(numbered(2000).slice(span[0], span[0]! + 128));
        expect(span.some((token) => own.includes(token))).toBe(false);
        const expected = own.slice(0, 512);
        expected.set(span, 384);
        if (gap !== undefined) expected.set(span, 384 - gap - 128);
        expect(tokens).toEqual(expected);
      });
    }
  });

  test('a short text and short rows are refused', () => {
    expect(() => plainRows(numbered(1025), options)).toThrow('too short for rows of 512: it must have 1026');
    expect(() => plainRows(text, { length: 255, count: 1 })).toThrow('256 or more');
  });
});

describe('figures', () => {
  /** Each token costs its place in the row; of the second row a tenth more. Copies cost what their gap is. */
  const run = {
    losses: (rows: readonly TextRow[]) =>
      Promise.resolve(
        rows.map(({ tokens, from }, i) =>
          Float32Array.from(tokens.subarray(from), (token, j) => {
            const earlier = tokens.indexOf(token);
            if (from > 1) return earlier === from + j ? 5 : from + j - earlier - 128;
            return (j + 1) * (1 + i / 10);
          }),
        ),
      ),
  };

  test('means by position and gap, with standard errors over rows', async () => {
    const text = { tokens: numbered(2000), bytes: 4000 };
    const found = await measureQuality(run, text, { length: 512, count: 2 });
    expect(found.loss.mean).toBeCloseTo(256.5 * 1.05, 3);
    expect(found.loss.error).toBeCloseTo(256.5 * 0.05, 3);
    expect(found.perplexity).toBeCloseTo(Math.exp(found.loss.mean));
    expect(found.bitsPerByte).toBeCloseTo(found.loss.mean / Math.log(2) / 2);
    expect(found.byPosition.map(({ from, to }) => [from, to])).toEqual([
      [0, 127],
      [128, 255],
      [256, 511],
    ]);
    const means = [64.5, 192.5, 384.5].map((mean) => 1.05 * mean);
    expectClose(
      found.byPosition.map(({ loss }) => loss.mean),
      means,
      tolerance.f32,
    );
    expect(found.copies).toEqual([128, 256].map((gap) => ({ gap, loss: { mean: gap, error: 0 } })));
    expect(found.unseen).toEqual({ mean: 5, error: 0 });
  });
});

const tiny = tinyModel({ window: 16 });
const { vocabSize } = tiny.config;

function referenceLosses({ tokens, from }: TextRow): number[] {
  const logits = decoderReference(tiny.config, tiny.values, [...tokens.subarray(0, -1)]);
  const logProbabilities = logSoftmaxReference(logits, vocabSize);
  return [...tokens.subarray(from)].map((token, j) => -logProbabilities[(from + j - 1) * vocabSize + token]!);
}

async function lossesOf(device: Device, rows: readonly TextRow[]): Promise<Float32Array[]> {
  const file = await openSafetensors(await tinyFiles(tiny).bytes('model.safetensors'), 'tiny');
  const decoder = await Decoder.load(device, tiny.config, openWeights(tiny.config, file));
  const run = new LossRun(device, decoder, 40, { sequences: 2, chunk: 16 });
  try {
    return await run.losses(rows);
  } finally {
    run.destroy();
    decoder.destroy();
    expectNothingAllocated(device);
    await expectNoErrors(device);
  }
}

describe('losses', () => {
  /** A step takes two: a full one and a part of one. */
  const rowsOf = (length: number, from: number): TextRow[] =>
    [3, 5, 7].map((step) => ({ tokens: numbered(length).map((i) => (i * i * step) % vocabSize), from }));

  // In the second case the first chunk is not scored, and the last one is a single token.
  test.each([
    [40, 1],
    [34, 20],
  ])('of rows of %i tokens from %i on are those of the reference', async (length, from) => {
    const device = await testDevice();
    const rows = rowsOf(length, from);
    const found = await lossesOf(device, rows);
    rows.forEach((row, i) => expectClose(found[i]!, referenceLosses(row), tolerance.f32));
    device.destroy();
  });

  test.each(Object.keys(tiers) as TierName[])('tier %s: everything compiles', async (tier) => {
    const device = await nullDevice(tier);
    const found = await lossesOf(device, rowsOf(34, 20));
    expect(found.map(({ length }) => length)).toEqual([14, 14, 14]);
    device.destroy();
  });
});
