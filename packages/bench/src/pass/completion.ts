import type { Sample } from '@ensample/runtime';
import { parse } from 'acorn';

/** Ends a sample at its function's last brace, the first that stands at the start of a line. */
export const stop = '\n}';

/**
 * The whole function that a sample completes; what follows it is left out.
 * @param head The function up to its body.
 * @returns undefined when the sample ended before its function did.
 */
export function completedFunction(
  head: string,
  { text, finishReason }: Pick<Sample, 'text' | 'finishReason'>,
): string | undefined {
  for (let end = text.indexOf('}') + 1; end > 0; end = text.indexOf('}', end) + 1) {
    // Of all prefixes that end in a brace, the shortest that parses: braces in strings and comments end none.
    const candidate = head + text.slice(0, end);
    if (parses(candidate)) return candidate;
  }
  return finishReason === 'stop' ? head + text + stop : undefined;
}

function parses(source: string): boolean {
  try {
    parse(source, { ecmaVersion: 'latest', sourceType: 'module' });
    return true;
  } catch {
    return false;
  }
}
