import { readFileSync } from 'node:fs';
import { InvalidModelError, InvalidOptionError } from '@ensample/tensor';
import { describe, expect, it } from 'vitest';
import { createTokenizer } from '../src/tokenizer.ts';

const folder = new URL('../../model-js/models/js-22m/', import.meta.url);
const read = (file: string): unknown => JSON.parse(readFileSync(new URL(file, folder), 'utf8'));
const json = read('tokenizer.json') as Record<string, unknown> & { model: Record<string, unknown> };
const config = read('tokenizer_config.json');
const golden = read('golden.json') as {
  cases: { prompt: string; ids: number[]; greedy: number[]; greedy_text: string }[];
};
const tokenizer = createTokenizer(json, config);
const SPECIAL = ['<|end|>', '<|file|>', '<|fim_prefix|>', '<|fim_suffix|>', '<|fim_middle|>'];

describe('createTokenizer', () => {
  it.each(golden.cases)(
    'encodes as the training tokenizer: $prompt',
    ({ prompt, ids, greedy, greedy_text }) => {
      expect(prompt.startsWith('<|file|>')).toBe(true);
      expect(tokenizer.encode(prompt.slice('<|file|>'.length))).toEqual(ids.slice(1));
      expect(tokenizer.decode(ids)).toBe(prompt.slice('<|file|>'.length));
      expect(tokenizer.decode(greedy)).toBe(
        SPECIAL.reduce((text, name) => text.replaceAll(name, ''), greedy_text),
      );
    },
  );

  const texts: [string, string][] = [
    ['empty text', ''],
    ['special literals', SPECIAL.join('')],
    ['special literals in code', `const end = "${SPECIAL.join(' ')}";\n`],
    ['nested literals', '<|<|end|>end|>'],
    ['words of Object.prototype', 'constructor toString __proto__ hasOwnProperty'],
    ['CRLF and blanks', 'a\r\n\r\n\t\tb  \n   \n\n c \r'],
    ['unicode', 'naïve Ωμέγα 漢字かな עברית ﷽ e\u0301'],
    ['emoji', '👍🏽 👨‍👩‍👧‍👦 🇪🇺'],
    ['a byte order mark, NUL and controls', '\ufeffa\0\x01\x7f\u00ad\u2028'],
    ['spaces that a clean-up would eat', "do n't , stop . \u00a0 ' s"],
  ];
  it.each(texts)('round-trips %s without special ids', (_, text) => {
    const ids = tokenizer.encode(text);
    expect(ids.filter((id) => id < SPECIAL.length)).toEqual([]);
    expect(tokenizer.decode(ids)).toBe(text);
  });

  it('knows its special tokens and its size', () => {
    expect(SPECIAL.map((name) => tokenizer.specialId(name))).toEqual([0, 1, 2, 3, 4]);
    expect(() => tokenizer.specialId('<|pad|>')).toThrow('tokenizer.json has no special token <|pad|>');
    expect(tokenizer.vocabSize).toBe(8192);
    expect(tokenizer.token(1)).toBe('<|file|>');
    expect(tokenizer.token(golden.cases[0]?.ids[2] ?? 0)).toBe('.js');
  });

  it('refuses ids outside the vocabulary', () => {
    for (const id of [-1, 8192, 1.5, NaN]) {
      expect(() => tokenizer.decode([id])).toThrow(InvalidOptionError);
      expect(() => tokenizer.token(id)).toThrow(
        `Token id ${id} is not in the vocabulary: use integers from 0 to 8191.`,
      );
    }
  });
});

describe('stream', () => {
  it('never gives half a character, and in all gives what decode gives', () => {
    const text = 'x = "👩‍🚀漢é";\ufeff';
    const stream = tokenizer.stream();
    const pieces = tokenizer.encode(text).map((id) => stream.push(id));
    expect(pieces.join('')).toBe(text);
    expect(pieces).toContain('');
    expect(pieces.join('')).not.toContain('\ufffd');
    expect(stream.flush()).toBe('');
  });

  it('leaves special tokens out, even inside a character', () => {
    const [first = 0, ...rest] = tokenizer.encode('🦕');
    expect(rest.length).toBeGreaterThan(0);
    const stream = tokenizer.stream();
    expect([first, 0, ...rest].map((id) => stream.push(id)).join('')).toBe('🦕');
  });

  it('flushes an unfinished character as U+FFFD', () => {
    const stream = tokenizer.stream();
    expect(stream.push(tokenizer.encode('🦕')[0] ?? 0)).toBe('');
    expect(stream.flush()).toBe('\ufffd');
    expect(stream.flush()).toBe('');
  });
});

describe('damaged tokenizer.json', () => {
  const model = (over: object): object => ({ ...json, model: { ...json.model, ...over } });
  const vocab = json.model['vocab'] as Record<string, number>;
  const { a, ...withoutA } = vocab;
  const refused: [string, unknown, string][] = [
    ['no object', null, 'tokenizer.json: the content is null; expected a JSON object'],
    ['no model', { ...json, model: undefined }, 'tokenizer.json: model is missing'],
    [
      'another model',
      model({ type: 'Unigram' }),
      'model.type is "Unigram"; only byte-level BPE is supported',
    ],
    [
      'another decoder',
      { ...json, decoder: { type: 'Metaspace' } },
      'decoder is {"type":"Metaspace"}; only type ByteLevel',
    ],
    ['no merges', model({ merges: null }), 'model.merges is missing; expected an array'],
    ['no vocabulary', model({ vocab: [] }), 'model.vocab is []; expected a JSON object'],
    ['a fraction as id', model({ vocab: { ...vocab, a: 0.5 } }), 'model.vocab.a is 0.5; expected an integer'],
    [
      'a byte without token',
      model({ vocab: withoutA }),
      'model.vocab.a is missing; every byte needs a token, this is the one of byte 97',
    ],
    ['a hole', model({ vocab: { ...vocab, zzz: 9000 } }), 'no token has id 8192'],
    [
      'text that is not byte-level',
      model({ vocab: { ...vocab, 漢: 8192 } }),
      'model.vocab.漢 is 8192; it is not in byte-level form',
    ],
    [
      'an added token',
      { ...json, added_tokens: [{ id: 'x', content: 'y' }] },
      'added_tokens[0].id is "x"; expected',
    ],
    [
      'a pre-tokenizer',
      { ...json, pre_tokenizer: { type: 'X' } },
      'tokenizer.json cannot be used: Error: Unknown PreTokenizer',
    ],
  ];
  it.each(refused)('refuses %s', (_, tokenizerJson, message) => {
    expect(a).toBeTypeOf('number');
    expect(() => createTokenizer(tokenizerJson, config)).toThrow(InvalidModelError);
    expect(() => createTokenizer(tokenizerJson, config)).toThrow(message);
  });

  it('refuses a tokenizer_config.json that is no object', () => {
    expect(() => createTokenizer(json, 1)).toThrow(
      'tokenizer_config.json: the content is 1; expected a JSON object',
    );
  });
});
