import type { Task } from '../task.ts';
import { arrays } from './arrays.ts';
import { numbers } from './numbers.ts';
import { objects } from './objects.ts';
import { predicates } from './predicates.ts';
import { strings } from './strings.ts';

/** All tasks. Themes take turns, so that the first few are a fair choice. */
export const tasks: readonly Task[] = inTurn([numbers, strings, arrays, objects, predicates]);

function inTurn(themes: readonly (readonly Task[])[]): Task[] {
  const longest = Math.max(...themes.map((theme) => theme.length));
  return Array.from({ length: longest }, (_, i) => themes.flatMap((theme) => theme[i] ?? [])).flat();
}
