export { createEngine, Engine, type EngineOptions } from './engine.ts';
export type { Draft, DraftOption } from './drafting.ts';
export type {
  LoadedModel,
  LoadOptions,
  LoadProgress,
  Model,
  ModelActivations,
  ModelSource,
  ModelStep,
  Prompt,
  PromptFrame,
  StepResult,
  TextPrompt,
  TextStream,
  Tokenizer,
} from './model.ts';
export {
  maxSamples,
  type GenerateOptions,
  type PromptedOptions,
  type SamplingOptions,
  type SpeculationOptions,
  type StoppingOptions,
} from './options.ts';
export type {
  FinishReason,
  GenerateResult,
  GenerateStats,
  Sample,
  SpeculationStats,
  StreamEvent,
  TokenLatency,
} from './result.ts';
export { Session } from './session.ts';
export {
  DeviceLostError,
  EnsampleError,
  InvalidModelError,
  InvalidOptionError,
  OutOfMemoryError,
  UnsupportedFeatureError,
} from '@ensample/tensor';
