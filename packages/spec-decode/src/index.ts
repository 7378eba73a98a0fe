export { coupled, rejection, type AcceptanceRule, type JudgeShape, type JudgeTensors } from './acceptance.ts';
export { autoController, type AutoOptions } from './auto-length.ts';
export { advanceDraft, keepLaw, type DraftTensors, type Laws } from './draft.ts';
export {
  bassController,
  expectedTokens,
  fixedController,
  maxDraftLength,
  type BassOptions,
  type DraftLengthController,
  type RoundReport,
} from './draft-length.ts';
export {
  SpeculationCosts,
  type SpeculationCostsOptions,
  type SpeculationReport,
} from './speculation-costs.ts';
export { type LookupOptions } from './lookup.ts';
export { promptLookup } from './prompt-lookup.ts';
export {
  accept,
  clearGuesses,
  encodeSlots,
  layOutRows,
  status,
  type AcceptTensors,
  type RoundTensors,
  type Slot,
} from './round.ts';
export { siblingLookup } from './sibling-lookup.ts';
export type { DraftRound, DraftStrategy } from './strategy.ts';
