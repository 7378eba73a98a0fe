import type { Decoder, Tokenizer } from '@ensample/mixattn-model';
import { InvalidModelError, InvalidOptionError } from '@ensample/tensor';

/** A source file. */
export interface SourceFile {
  /** Without folders. */
  readonly name: string;
  readonly text: string;
}

/** Text as a model reads it: its documents one after the other. */
export interface TokenStream {
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** UTF-8 bytes of names and texts: with it, losses of models with other tokenizers compare. */
  readonly bytes: number;
}

const fileMark = '<|file|>';
const endMark = '<|end|>';

/** Text of a data file: `<|file|>name`, a line break, the text and `<|end|>` for each source. */
export function formatSources(sources: readonly SourceFile[]): string {
  return sources.map(({ name, text }) => `${fileMark}${name}\n${text}${endMark}`).join('');
}

/**
 * The sources in a data file.
 * @throws InvalidOptionError where it is not of the form that {@link formatSources} gives.
 */
export function parseSources(data: string): SourceFile[] {
  const parts = data.split(endMark);
  const rest = parts.pop();
  if (rest !== '' || parts.length === 0) {
    throw new InvalidOptionError(
      `the text must be sources of the form ${fileMark}name, line break, text, ${endMark}`,
    );
  }
  return parts.map((part, i) => {
    const lineEnd = part.indexOf('\n');
    if (!part.startsWith(fileMark) || lineEnd < 0) {
      throw new InvalidOptionError(
        `source ${i} of the text must begin with ${fileMark}name and a line break`,
      );
    }
    return { name: part.slice(fileMark.length, lineEnd), text: part.slice(lineEnd + 1) };
  });
}

/**
 * Encodes sources as js-22m was trained on them. Models without the token `<|file|>` get the same text without it; each
 * source ends with the model's own end token.
 */
export function encodeSources(
  sources: readonly SourceFile[],
  tokenizer: Tokenizer,
  { eosTokenIds }: Pick<Decoder['config'], 'eosTokenIds'>,
): TokenStream {
  const begin = specialIds(tokenizer);
  const end = eosTokenIds.slice(0, 1);
  const documents = sources.map(({ name, text }) => `${name}\n${text}`);
  return {
    tokens: Uint32Array.from(documents.flatMap((text) => [...begin, ...tokenizer.encode(text), ...end])),
    bytes: documents.reduce((sum, text) => sum + new TextEncoder().encode(text).length, 0),
  };
}

function specialIds(tokenizer: Tokenizer): number[] {
  try {
    return [tokenizer.specialId(fileMark)];
  } catch (error) {
    if (error instanceof InvalidModelError) return [];
    throw error;
  }
}
