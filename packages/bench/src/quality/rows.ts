import { InvalidOptionError } from '@ensample/tensor';

/** A piece of text. Its tokens from `from` (at least 1) on are to be predicted, each from all before it. */
export interface TextRow {
  readonly tokens: Uint32Array<ArrayBuffer>;
  readonly from: number;
}

/** Which rows are taken of a text. */
export interface RowOptions {
  /** Tokens that a model reads of a row. */
  readonly length: number;
  /** Rows; they are spread over the text. */
  readonly count: number;
}

/** Tokens of a span that is copied. */
export const spanTokens = 128;

/** Of a span, the first tokens are not counted: that it is a copy cannot be seen yet. */
export const skippedTokens = 16;

/** Tokens between the end of a span and its copy, as far as rows are long enough. */
export function gapsWithin(length: number): number[] {
  return [128, 256, 512, 1024, 1536].filter((gap) => gap + 2 * spanTokens <= length);
}

/** Rows that do not overlap, at most. */
export function mostRows(tokens: Uint32Array, length: number): number {
  return Math.floor((tokens.length - 1) / length);
}

/** Rows of plain text: every token but the first is predicted, so that a row has length + 1. */
export function plainRows(text: Uint32Array<ArrayBuffer>, options: RowOptions): TextRow[] {
  return starts(text, options).map((start) => ({
    tokens: text.slice(start, start + options.length + 1),
    from: 1,
  }));
}

/**
 * The same rows that end with a span from elsewhere in the text, which is predicted. With a gap the span also stands
 * that many tokens before.
 */
export function spanRows(text: Uint32Array<ArrayBuffer>, options: RowOptions, gap?: number): TextRow[] {
  const spanAt = options.length - spanTokens;
  return starts(text, options).map((start) => {
    const elsewhere = (start + (text.length >> 1)) % (text.length - spanTokens);
    const span = text.subarray(elsewhere, elsewhere + spanTokens);
    const tokens = text.slice(start, start + options.length);
    tokens.set(span, spanAt);
    if (gap !== undefined) tokens.set(span, spanAt - gap - spanTokens);
    return { tokens, from: spanAt + skippedTokens };
  });
}

/** First tokens of the rows. From there, half the text further on is always outside the row. */
function starts({ length: available }: Uint32Array, { length, count }: RowOptions): number[] {
  if (length < 2 * spanTokens) {
    throw new InvalidOptionError(
      `rows of ${length} tokens are too short: they must have ${2 * spanTokens} or more`,
    );
  }
  if (available < 2 * (length + 1)) {
    throw new InvalidOptionError(
      `a text of ${available} tokens is too short for rows of ${length}: it must have ${2 * (length + 1)} or more`,
    );
  }
  const last = available - length - 1;
  return Array.from({ length: count }, (_, i) => Math.floor((i * last) / Math.max(1, count - 1)));
}
