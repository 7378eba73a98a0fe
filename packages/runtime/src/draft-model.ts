import { Attention } from '@ensample/bifurcated-attn';
import { KvCache } from '@ensample/kv-cache';
import type { Laws } from '@ensample/spec-decode';
import { InvalidOptionError, type Device } from '@ensample/tensor';
import type { LoadedModel } from './model.ts';
import { Sampler } from './sampler.ts';
import { Stepper } from './stepper.ts';

/** A small model that guesses for a large one: its KV is a tree of its own, with the prompt stored and read once too. */
export class DraftModel {
  readonly name: string;
  readonly stepper: Stepper;
  readonly sampler: Sampler;
  /** Plan of the steps after a round's first, which have one row a sample. */
  readonly nextPlan: Attention;
  readonly #loaded: LoadedModel;
  #laws: Laws | undefined;
  #lawsVersion = 0;
  #samples = 0;

  constructor(device: Device, name: string, loaded: LoadedModel, kvType?: 'f32' | 'f16') {
    const { model } = loaded;
    const cache = new KvCache(device, model.layout, kvType ? { dtype: kvType } : {});
    this.name = name;
    this.stepper = new Stepper(model, cache, new Attention(cache, { heads: model.config.heads }));
    this.nextPlan = this.stepper.addPlan();
    this.sampler = new Sampler(device, model.config.vocabSize);
    this.#loaded = loaded;
  }

  /** Room for the laws of `guesses` draws of each sample. */
  laws(samples: number, guesses: number): Laws {
    if (!this.#laws || samples > this.#samples || guesses > this.#laws.guesses) {
      const { device, model } = this.stepper;
      const kept = this.#laws?.guesses ?? 0;
      this.#laws?.tensor.destroy();
      this.#samples = Math.max(samples, this.#samples);
      const most = Math.max(guesses, kept);
      const tensor = device.tensor('f32', [this.#samples, most, model.config.vocabSize]);
      this.#laws = { tensor, guesses: most };
      this.#lawsVersion++;
    }
    return this.#laws;
  }

  /** Changes when buffers outside of the stepper were replaced. */
  get version(): string {
    return `${this.sampler.version}.${this.#lawsVersion}`;
  }

  /** Frees everything, the model's weights included. */
  destroy(): void {
    this.#laws?.tensor.destroy();
    this.sampler.destroy();
    this.stepper.destroy();
    this.nextPlan.destroy();
    this.stepper.attention.destroy();
    this.stepper.cache.destroy();
    this.#loaded.model.destroy();
  }
}

/** Token ids that are compared between a draft's tokenizer and the target's. */
const probes = 512;

/**
 * A draft's tokens must be the target's.
 * @throws InvalidOptionError that says how they differ.
 */
export function checkDraft(name: string, draft: LoadedModel, target: LoadedModel): void {
  const { vocabSize, contextLength } = target.model.config;
  const own = draft.model.config;
  const differ = (why: string) =>
    new InvalidOptionError(
      `draft model ${name} does not fit the target: ${why}. Use a model with the same tokenizer`,
    );
  if (own.vocabSize !== vocabSize) {
    throw differ(`its vocabulary has ${own.vocabSize} tokens, the target's ${vocabSize}`);
  }
  for (let i = 0; i < probes; i++) {
    const id = Math.floor((i * vocabSize) / probes);
    const [a, b] = [draft.tokenizer.decode([id]), target.tokenizer.decode([id])];
    if (a !== b)
      throw differ(`token ${id} is ${JSON.stringify(a)} for it and ${JSON.stringify(b)} for the target`);
  }
  if (own.contextLength < contextLength) {
    throw new InvalidOptionError(
      `draft model ${name} has a context of ${own.contextLength} tokens, the target ${contextLength}: ` +
        `use a draft with a context at least as long`,
    );
  }
}
