import { InvalidModelError, InvalidOptionError } from '@ensample/tensor';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { jsonObject, type JsonObject } from './json-object.ts';

/** Text to token ids and back, byte for byte. */
export interface Tokenizer {
  /** Ids run from 0 to vocabSize − 1. */
  readonly vocabSize: number;
  /** Never gives a special token: text that looks like one (`<|end|>`) is encoded as the plain text it is. */
  encode(text: string): number[];
  /**
   * Special tokens are left out; bytes that are no UTF-8 become U+FFFD.
   *
   * @throws InvalidOptionError for an id outside the vocabulary
   */
  decode(ids: readonly number[]): string;
  /** One token as text, for display: a special token's own name; U+FFFD for half a character. */
  token(id: number): string;
  /** @throws InvalidModelError where the model has no such special token */
  specialId(content: string): number;
  /** Decodes tokens as they come. */
  stream(): TextStream;
}

export interface TextStream {
  /** The text this token completes: never half a character, so it may be empty. Special tokens are left out. */
  push(id: number): string;
  /** What is left when the tokens end: U+FFFD where they end inside a character, else nothing. */
  flush(): string;
}

/**
 * Makes a tokenizer from a Hugging Face tokenizer.json of byte-level BPE (GPT-2, Llama 3, Qwen and js-22m are of this kind).
 *
 * @throws InvalidModelError for another kind, or a damaged file
 */
export function createTokenizer(tokenizerJson: unknown, tokenizerConfig: unknown): Tokenizer {
  const { special, bytes } = readVocabulary(jsonObject(tokenizerJson, 'tokenizer.json'));
  jsonObject(tokenizerConfig, 'tokenizer_config.json');
  const encoder = createEncoder(tokenizerJson as TokenizerJson, tokenizerConfig as object, special);
  const bytesOf = (id: number): Uint8Array => {
    const found = bytes[id];
    if (found) return found;
    throw new InvalidOptionError(
      `Token id ${id} is not in the vocabulary: use integers from 0 to ${bytes.length - 1}.`,
    );
  };
  const specialIds = new Set(special.values());
  const stream = (): TextStream => {
    const text = utf8Decoder();
    return {
      push: (id) => {
        const piece = bytesOf(id);
        return specialIds.has(id) ? '' : text.decode(piece, { stream: true });
      },
      flush: () => text.decode(),
    };
  };
  return {
    vocabSize: bytes.length,
    encode: (text) => encoder.encode(text, { add_special_tokens: false }).ids,
    decode: (ids) => {
      const text = stream();
      return ids.map((id) => text.push(id)).join('') + text.flush();
    },
    token: (id) => utf8Decoder().decode(bytesOf(id)),
    specialId: (content) => {
      const id = special.get(content);
      if (id !== undefined) return id;
      throw new InvalidModelError(
        `tokenizer.json has no special token ${content}: the model was not trained with it.`,
      );
    },
    stream,
  };
}

function utf8Decoder(): TextDecoder {
  return new TextDecoder('utf-8', { ignoreBOM: true }); // A byte order mark is text like any other.
}

/** The library's tokenizer without special tokens, so that no text can make one. */
function createEncoder(json: TokenizerJson, config: object, special: ReadonlyMap<string, number>): Encoder {
  const merged = (pair: string | string[]): string =>
    typeof pair === 'string' ? pair.replace(' ', '') : pair.join('');
  const plain = {
    ...json,
    added_tokens: (json.added_tokens ?? []).filter((token) => !special.has(token.content)),
    model: {
      ...json.model,
      vocab: Object.fromEntries(Object.entries(json.model.vocab).filter(([token]) => !special.has(token))),
      merges: json.model.merges.filter((pair) => !special.has(merged(pair))),
    },
  };
  try {
    return new Library(plain, config);
  } catch (cause) {
    throw new InvalidModelError(`tokenizer.json cannot be used: ${String(cause)}.`, { cause });
  }
}

/** The part of the library's tokenizer used here; its own types do not resolve under `nodenext`. */
interface Encoder {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
}

const Library = HuggingFaceTokenizer as new (json: object, config: object) => Encoder;

/** The parts of tokenizer.json used here, after `readVocabulary` has checked them. */
interface TokenizerJson {
  added_tokens?: { id: number; content: string; special?: boolean }[];
  model: { vocab: Record<string, number>; merges: (string | string[])[] };
}

interface Vocabulary {
  /** Ids of the special tokens. */
  special: Map<string, number>;
  /** The bytes each id stands for. */
  bytes: Uint8Array[];
}

function readVocabulary(json: JsonObject): Vocabulary {
  const model = json.object('model') ?? json.refuse('model', 'expected an object');
  if (model.string('type', 'BPE') !== 'BPE') model.refuse('type', 'only byte-level BPE is supported');
  if (json.object('decoder')?.raw('type') !== 'ByteLevel')
    json.refuse('decoder', 'only type ByteLevel is supported');
  if (!model.array('merges')) model.refuse('merges', 'expected an array');
  const vocab = model.object('vocab') ?? model.refuse('vocab', 'expected an object');
  const { special, added } = readAddedTokens(json);
  const bytes: Uint8Array[] = [];
  for (const [content, id] of added) bytes[id] = new TextEncoder().encode(content);
  const byteOf = byteAlphabet();
  for (const token of vocab.keys()) {
    if (!added.has(token)) bytes[vocab.integer(token, 0, 2 ** 22)] = tokenBytes(token, byteOf, vocab);
  }
  for (const [char, byte] of byteOf) {
    if (vocab.raw(char) === undefined)
      vocab.refuse(char, `every byte needs a token, this is the one of byte ${byte}`);
  }
  const hole = Array.from(bytes).findIndex((token) => !(token as Uint8Array | undefined));
  if (hole >= 0) model.refuse('vocab', `no token has id ${hole}`);
  return { special, bytes };
}

function readAddedTokens(json: JsonObject): { special: Map<string, number>; added: Map<string, number> } {
  const special = new Map<string, number>();
  const added = new Map<string, number>();
  for (const [i, entry] of (json.array('added_tokens') ?? []).entries()) {
    const token = jsonObject(entry, 'tokenizer.json', `added_tokens[${i}]`);
    const content = token.string('content');
    const id = token.integer('id', 0, 2 ** 22);
    added.set(content, id);
    if (token.boolean('special', false)) special.set(content, id);
  }
  return { special, added };
}

function tokenBytes(token: string, byteOf: ReadonlyMap<string, number>, vocab: JsonObject): Uint8Array {
  return Uint8Array.from(
    token,
    (char) => byteOf.get(char) ?? vocab.refuse(token, 'it is not in byte-level form'),
  );
}

/** Byte-level BPE (GPT-2) writes each byte as one visible character: itself, or one of U+0100 and on. */
function byteAlphabet(): Map<string, number> {
  const visible = (byte: number): boolean => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let next = 256;
  return new Map(
    Array.from({ length: 256 }, (_, byte) => [String.fromCharCode(visible(byte) ? byte : next++), byte]),
  );
}
