import type { Tokenizer } from '@ensample/mixattn-model';

/** A prompt as a person gives it. */
export interface FramedPrompt {
  /** The text to continue. */
  text: string;
  /** The file the text is from, on one line; its ending tells the language. Default `index.ts`. */
  fileName?: string;
  /** The text after the gap; with it the model fills the gap between `text` and `suffix`. */
  suffix?: string;
}

/** Puts a prompt into the form a model was trained on. */
export interface PromptFrame {
  /** The token ids to prefill. */
  encode(tokenizer: Tokenizer, prompt: FramedPrompt): number[];
}

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
