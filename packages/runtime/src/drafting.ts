import {
  autoController,
  bassController,
  fixedController,
  promptLookup,
  siblingLookup,
  type DraftLengthController,
  type DraftStrategy,
  type SpeculationCosts,
} from '@ensample/spec-decode';
import { InvalidOptionError, type Device } from '@ensample/tensor';
import { checkDraft, DraftModel } from './draft-model.ts';
import type { LoadedModel, LoadOptions, ModelSource } from './model.ts';
import type { ResolvedOptions } from './options.ts';

/** One source of guesses: a strategy of `@ensample/spec-decode` or your own, or a small model with the same tokenizer. */
export type Draft = DraftStrategy | ModelSource;

/**
 * `'auto'`: what the prompt and the other samples say, then the model's own draft, if it names one; `'none'`: no guesses;
 * or the sources to use, in order: the first guess for a place wins, and a model, which always has one, comes last.
 */
export type DraftOption = 'auto' | 'none' | Draft | readonly Draft[];

/** What an engine drafts with. */
export interface Drafting {
  readonly strategies: readonly (DraftStrategy | DraftModel)[];
  readonly costs: SpeculationCosts;
}

/**
 * The drafts that {@link DraftOption} asks for.
 * @throws InvalidOptionError for something else, or where a model is not the last.
 */
export function draftsOf(option: DraftOption, target: ModelSource): Draft[] {
  const drafts = listOf(option, target);
  const at = drafts.findIndex(isModel);
  if (at >= 0 && at < drafts.length - 1) {
    throw new InvalidOptionError(
      `draft has model ${drafts[at]?.name} before ${drafts.at(-1)?.name}: a model guesses every place, so put it last`,
    );
  }
  return drafts;
}

/**
 * Loads the models among drafts.
 * @throws InvalidOptionError for a model that does not fit the target; nothing stays loaded then.
 */
export async function openDrafts(
  device: Device,
  drafts: readonly Draft[],
  target: LoadedModel,
  options: LoadOptions & { readonly kvType?: 'f32' | 'f16' },
): Promise<(DraftStrategy | DraftModel)[]> {
  const opened: (DraftStrategy | DraftModel)[] = [];
  for (const draft of drafts)
    opened.push(isModel(draft) ? await openModel(device, draft, target, options) : draft);
  return opened;
}

async function openModel(
  device: Device,
  source: ModelSource,
  target: LoadedModel,
  options: LoadOptions & { readonly kvType?: 'f32' | 'f16' },
): Promise<DraftModel> {
  const { onProgress, signal } = options;
  const loaded = await source.load(device, { ...(onProgress && { onProgress }), ...(signal && { signal }) });
  try {
    checkDraft(source.name, loaded, target);
    return new DraftModel(device, source.name, loaded, options.kvType);
  } catch (error) {
    loaded.model.destroy();
    throw error;
  }
}

function listOf(option: DraftOption, target: ModelSource): Draft[] {
  if (option === 'none') return [];
  if (option === 'auto') return [promptLookup(), siblingLookup(), ...(target.draft ? [target.draft()] : [])];
  const drafts: readonly unknown[] = Array.isArray(option) ? option : [option];
  return drafts.map((draft) => {
    if (isModel(draft) || isStrategy(draft)) return draft;
    throw new InvalidOptionError(
      `draft is ${JSON.stringify(draft)}: it must be 'auto', 'none', a model source, a strategy, or a list of these`,
    );
  });
}

function isModel(draft: unknown): draft is ModelSource {
  return typeof (draft as Partial<ModelSource> | null)?.load === 'function';
}

function isStrategy(draft: unknown): draft is DraftStrategy {
  return typeof (draft as Partial<DraftStrategy> | null)?.propose === 'function';
}

/**
 * The controllers of a run, one for each round in flight where a controller must see every round before the next.
 * @throws InvalidOptionError for a length that does not fit the samples, the context or the engine.
 */
export function controllersOf(
  { strategies, costs }: Drafting,
  { draftLength, samples }: ResolvedOptions,
  { longest, contextLeft }: { readonly longest: number; readonly contextLeft: number },
  depth: number,
): DraftLengthController[] {
  if (draftLength === 0 || (strategies.length === 0 && draftLength === 'auto')) return [fixedController(0)];
  if (strategies.length === 0) {
    throw new InvalidOptionError(
      `draftLength is ${draftLength}, and this engine has nothing to draft with: give createEngine a \`draft\``,
    );
  }
  if (draftLength === 'auto') return [autoController({ costs, samples, limit: longest })];
  if (draftLength === 'bass') return Array.from({ length: depth }, () => bassController({ limit: longest }));
  if (draftLength > longest) {
    throw new InvalidOptionError(
      `draftLength is ${draftLength}: with ${samples} samples of this model it must be at most ${longest}`,
    );
  }
  if (draftLength > contextLeft) {
    throw new InvalidOptionError(
      `draftLength is ${draftLength}, and the context has ${contextLeft} tokens left: use at most that, or a shorter prompt`,
    );
  }
  return [fixedController(draftLength)];
}
