import { Attention } from '@ensample/bifurcated-attn';
import { KvCache, promptPages, type KvMemory } from '@ensample/kv-cache';
import {
  acquireDevice,
  InvalidOptionError,
  type Device,
  type MemoryUse,
  type TierName,
} from '@ensample/tensor';
import { SpeculationCosts, type DraftStrategy } from '@ensample/spec-decode';
import { DraftModel } from './draft-model.ts';
import { draftsOf, openDrafts, type Draft, type DraftOption } from './drafting.ts';
import { checkFits, collect, leafPages } from './generation.ts';
import { Lock } from './lock.ts';
import type { LoadedModel, LoadOptions, ModelSource, Prompt, TextPrompt } from './model.ts';
import { resolveOptions, stopIds, tokenId, type PromptedOptions } from './options.ts';
import type { GenerateResult, StreamEvent } from './result.ts';
import { RunState } from './run-state.ts';
import { Sampler } from './sampler.ts';
import { checkLength, Session, type Shared } from './session.ts';
import { Stepper } from './stepper.ts';

/** Options of {@link createEngine}. */
export interface EngineOptions extends LoadOptions {
  /** `js22m()` of `@ensample/model-js`, or `modelSource(files)` of `@ensample/mixattn-model`. */
  readonly model: ModelSource;
  /** What guesses tokens ahead; see {@link DraftOption}. Default `'auto'`. */
  readonly draft?: DraftOption;
  /** A device of your own (the engine does not destroy it). Default: the best adapter of the platform. */
  readonly device?: Device;
  /** Node only: part of the adapter's name. Default: the environment's `ENSAMPLE_ADAPTER`, else the fastest. */
  readonly adapter?: string;
  /**
   * Node only: shaders do not check that what they index is in bounds, as WebGPU otherwise has them do (Dawn's
   * `disable_robustness`; browsers have no such switch). What it buys: docs/performance.md. A mistake in a kernel, or a damaged
   * model, may then read and write whatever else this process has on the GPU: only for models that you trust. Default false.
   */
  readonly unchecked?: boolean;
  /** Force a capability tier. Default: the best that the adapter has. */
  readonly tier?: TierName;
  /** Element type of the KV cache. Default: f16 where the tier has it, else f32. */
  readonly kvType?: 'f32' | 'f16';
  /**
   * Most bytes that the device may hold: weights, KV and working memory, with all else that was made on it. A run whose
   * KV would go beyond is refused before anything is taken. Default: what the device can allocate.
   */
  readonly memoryBytes?: number;
  /** Receives one line when a software driver has to stand in for a GPU. Default: `console.warn`. */
  readonly onNotice?: (line: string) => void;
}

/**
 * Loads a model on a device.
 * @throws UnsupportedFeatureError without a usable adapter, InvalidModelError for damaged files, OutOfMemoryError;
 * nothing stays on the device then.
 */
export async function createEngine(options: EngineOptions): Promise<Engine> {
  const device = options.device ?? (await acquireDevice(options));
  try {
    checkKvType(device, options.kvType);
    checkMemoryBytes(options.memoryBytes);
    const drafts = draftsOf(options.draft ?? 'auto', options.model);
    const loaded = await options.model.load(device, options);
    const engine = await makeEngine(device, loaded, drafts, options);
    options.onProgress?.({ status: 'ready', name: options.model.name });
    return engine;
  } catch (error) {
    if (!options.device) device.destroy();
    throw error;
  }
}

async function makeEngine(
  device: Device,
  loaded: LoadedModel,
  drafts: readonly Draft[],
  options: EngineOptions,
): Promise<Engine> {
  const opened: (DraftStrategy | DraftModel)[] = [];
  try {
    opened.push(...(await openDrafts(device, drafts, loaded, options)));
    return new Engine(device, options.device === undefined, loaded, opened, options);
  } catch (error) {
    for (const draft of opened) if (draft instanceof DraftModel) draft.destroy();
    loaded.model.destroy();
    throw error;
  }
}

function hasText(prompt: unknown): prompt is TextPrompt {
  return typeof (prompt as Partial<TextPrompt> | null)?.text === 'string';
}

function isIds(prompt: Prompt): prompt is readonly number[] {
  return Array.isArray(prompt);
}

/**
 * What a drafted token is taken to cost before it was measured, in plain steps: on CPU drivers every row of a step is
 * work, and a verified token costs as much as a decoded one (measured: docs/performance.md); on GPUs rows are nearly free.
 */
const draftCosts = {
  thread: { draftCost: 1 },
  tile: { draftCost: 0.1 },
  matrix: { draftCost: 0.1 },
} as const;

const kvTypes: readonly unknown[] = [undefined, 'f32', 'f16'];

function checkKvType(device: Device, kvType: EngineOptions['kvType']): void {
  if (!kvTypes.includes(kvType)) {
    throw new InvalidOptionError(`kvType is ${String(kvType)}: it must be 'f32' or 'f16'`);
  }
  if (kvType === 'f16' && !device.gpu.features.has('shader-f16')) {
    throw new InvalidOptionError(
      `kvType is 'f16', which needs shader-f16, and tier ${device.tier.name} is without it: use 'f32'`,
    );
  }
}

function checkMemoryBytes(bytes = Infinity): void {
  if (typeof bytes === 'number' && bytes > 0) return;
  throw new InvalidOptionError(`memoryBytes is ${String(bytes)}: it must be a number of bytes above 0`);
}

/**
 * A model on a device, ready to sample: many continuations of one prompt, whose KV is stored once and read once a
 * step for all of them.
 */
export class Engine {
  readonly device: Device;
  readonly #ownsDevice: boolean;
  readonly #loaded: LoadedModel;
  readonly #cache: KvCache;
  readonly #attention: Attention;
  readonly #shared: Shared;
  #disposed = false;

  /** @internal Use {@link createEngine}. */
  constructor(
    device: Device,
    ownsDevice: boolean,
    loaded: LoadedModel,
    strategies: readonly (DraftStrategy | DraftModel)[],
    { kvType, memoryBytes = Infinity }: Pick<EngineOptions, 'kvType' | 'memoryBytes'>,
  ) {
    const { model, tokenizer } = loaded;
    this.device = device;
    this.#ownsDevice = ownsDevice;
    this.#loaded = loaded;
    this.#cache = new KvCache(device, model.layout, kvType ? { dtype: kvType } : {});
    this.#attention = new Attention(this.#cache, { heads: model.config.heads });
    this.#shared = {
      stepper: new Stepper(model, this.#cache, this.#attention, memoryBytes),
      sampler: new Sampler(device, model.config.vocabSize),
      state: new RunState(device, model.config.vocabSize),
      drafting: { strategies, costs: new SpeculationCosts(draftCosts[device.tier.attention]) },
      tokenizer,
      memoryBytes,
      lock: new Lock(),
      sessions: new Set(),
      check: () => {
        if (this.#disposed)
          throw new InvalidOptionError('this engine was disposed of: make a new one with createEngine');
        if (device.lostError) throw device.lostError;
      },
    };
  }

  /** Most tokens of prompt and output together. */
  get contextLength(): number {
    return this.#loaded.model.config.contextLength;
  }

  /** Bytes and buffers on the device: weights, KV and working memory. */
  get memory(): MemoryUse {
    return this.device.memory;
  }

  /** Bytes of KV in use and allocated. */
  get kvMemory(): KvMemory {
    return this.#cache.memory;
  }

  /**
   * Token ids of a prompt: text goes through the model's frame; ids are checked and taken as they are.
   * @throws InvalidOptionError for ids outside the vocabulary.
   */
  encode(prompt: Prompt): number[] {
    const { tokenizer, frame, model } = this.#loaded;
    if (isIds(prompt)) return prompt.map((id) => tokenId('prompt', id, model.config.vocabSize));
    const parts = typeof prompt === 'string' ? { text: prompt } : prompt;
    if (!hasText(parts)) {
      throw new InvalidOptionError(
        `prompt is ${JSON.stringify(prompt)}: it must be text, { text } or token ids`,
      );
    }
    return frame ? frame.encode(tokenizer, parts) : tokenizer.encode(parts.text);
  }

  /** Text of token ids; special tokens are left out. */
  decode(tokens: readonly number[]): string {
    return this.#loaded.tokenizer.decode(tokens);
  }

  /**
   * Computes a prompt once, to be continued as often as wanted.
   * @throws InvalidOptionError when it is empty or longer than the context.
   */
  async prefill(
    prompt: Prompt,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<Session> {
    return Session.start(this.#shared, this.#promptTokens(prompt), options.signal);
  }

  #promptTokens(prompt: Prompt): number[] {
    this.#shared.check();
    const tokens = this.encode(prompt);
    checkLength(tokens.length, this.contextLength);
    return tokens;
  }

  /** Draws samples of a prompt: a session used once. */
  async generate(options: PromptedOptions): Promise<GenerateResult> {
    return collect(this.stream(options));
  }

  /** The same as events, sample by sample as tokens come. Leaving the loop early ends the run. */
  async *stream({ prompt, ...options }: PromptedOptions): AsyncGenerator<StreamEvent, void> {
    const began = performance.now();
    const { vocabSize, eosTokenIds } = this.#loaded.model.config;
    const resolved = resolveOptions(options, vocabSize);
    stopIds(resolved, eosTokenIds); // refused before anything is computed
    const tokens = this.#promptTokens(prompt);
    const { stepper } = this.#shared;
    const { cache, prefillRows } = stepper;
    const ahead = promptPages(cache.kinds, { promptTokens: tokens.length, prefillRows }, cache);
    checkFits(this.#shared, tokens.length, resolved, ahead);
    const pages = leafPages(this.#shared, tokens.length, resolved);
    const session = await Session.start(this.#shared, tokens, options.signal, pages);
    try {
      yield* session.run(options, began);
    } finally {
      session.dispose();
    }
  }

  /** Frees everything, sessions included. A run under way rejects with InvalidOptionError. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const session of [...this.#shared.sessions]) session.dispose();
    this.#shared.stepper.destroy();
    this.#shared.sampler.destroy();
    this.#shared.state.destroy();
    for (const draft of this.#shared.drafting.strategies) if (draft instanceof DraftModel) draft.destroy();
    this.#attention.destroy();
    this.#cache.destroy();
    this.#loaded.model.destroy();
    if (this.#ownsDevice) this.device.destroy();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
