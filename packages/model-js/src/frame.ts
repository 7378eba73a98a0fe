import type { PromptFrame } from '@ensample/mixattn-model';

/**
 * `<|file|>name\ntext`, and around a gap `<|fim_prefix|><|file|>name\ntext<|fim_suffix|>suffix<|fim_middle|>`.
 * Only the frame has special tokens; the user's text never does.
 */
export const codeFrame: PromptFrame = {
  encode(tokenizer, { text, fileName = 'index.ts', suffix }) {
    const document = [tokenizer.specialId('<|file|>'), ...tokenizer.encode(`${fileName}\n${text}`)];
    if (suffix === undefined) return document;
    return [
      tokenizer.specialId('<|fim_prefix|>'),
      ...document,
      tokenizer.specialId('<|fim_suffix|>'),
      ...tokenizer.encode(suffix),
      tokenizer.specialId('<|fim_middle|>'),
    ];
  },
};
