import { lookup, type LookupOptions } from './lookup.ts';
import type { DraftStrategy } from './strategy.ts';

/** Guesses that a sample goes on as its prompt, or the sample itself, did after the same tokens. */
export function promptLookup(options: LookupOptions = {}): DraftStrategy {
  return lookup('prompt-lookup', 'own', options);
}
