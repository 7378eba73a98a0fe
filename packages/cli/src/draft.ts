import { existsSync } from 'node:fs';
import type { Draft, DraftOption, GenerateOptions } from '@ensample/runtime';
import { promptLookup, siblingLookup } from '@ensample/spec-decode';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { number } from './flags.ts';
import { chooseModel, isUrl } from './model.ts';

/** Flags about drafts, besides those that go to `generate` as they are. */
export interface DraftFlags {
  readonly draft?: DraftOption;
}

/** Adds the flags of drafts and how they are judged. */
export function addSpeculation(command: Command): void {
  command
    .option('--draft <sources>', 'auto, none; prompt, sibling or a model (default: auto)', draftOption)
    .option('--draft-length <count>', 'tokens guessed a round; or auto, bass (default: auto)', draftLength)
    .addOption(
      new Option('--acceptance <rule>', 'how guesses are judged (default: coupled)').choices([
        'coupled',
        'rejection',
      ]),
    )
    .option('--draft-temperature <number>', 'of a draft model (default: --temperature)', number);
}

/** `auto`, `none`, or sources with commas between them, in their order. */
function draftOption(text: string): DraftOption {
  if (text === 'auto' || text === 'none') return text;
  return text.split(',').map(draftSource);
}

function draftSource(name: string): Draft {
  if (name === 'prompt') return promptLookup();
  if (name === 'sibling') return siblingLookup();
  if (isUrl(name) || (name !== '' && existsSync(name))) return chooseModel(name).source;
  const why = name === 'auto' || name === 'none' ? `${name} stands alone` : `There is no folder "${name}"`;
  throw new InvalidArgumentError(
    `${why}: use auto, none, or a list of prompt, sibling, and a model's folder or URL.`,
  );
}

function draftLength(text: string): GenerateOptions['draftLength'] {
  if (text === 'auto' || text === 'bass') return text;
  try {
    return number(text);
  } catch {
    throw new InvalidArgumentError('It must be auto, bass or a number.');
  }
}
