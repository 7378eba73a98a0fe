import { lookup, type LookupOptions } from './lookup.ts';
import type { DraftStrategy } from './strategy.ts';

/**
 * Guesses that a sample goes on as another sample of the same prompt did after the same tokens: samples of one prompt
 * resemble each other, and only who draws many at once can look at them.
 */
export function siblingLookup(options: LookupOptions = {}): DraftStrategy {
  return lookup('sibling-lookup', 'siblings', options);
}
