import type { Sequence } from '@ensample/kv-cache';
import {
  advanceDraft,
  keepLaw,
  layOutRows,
  type AcceptanceRule,
  type DraftRound,
  type DraftStrategy,
  type Laws,
} from '@ensample/spec-decode';
import type { Pass, Recording } from '@ensample/tensor';
import { bucketOf } from './buckets.ts';
import type { DraftModel } from './draft-model.ts';
import type { RunState } from './run-state.ts';
import type { Running } from './stepper.ts';

/** Most tokens of a sample that the draft model reads at once to catch up after plain steps. */
const catchUp = 32;

/** What a {@link DraftRun} works with. */
export interface DraftRunOptions {
  readonly state: RunState;
  readonly adjusting: boolean;
  readonly rule: AcceptanceRule;
  /** Samples of the run. */
  readonly samples: number;
  /** Prefills the prompt for the draft model, when it is first needed. */
  readonly prefix: (pages: readonly number[]) => Promise<Sequence>;
  /** Tokens that a sample may have of its own, guesses included. */
  readonly ownTokens: number;
  /** Longest draft of a round. */
  readonly limit: number;
}

/** A round's rows, as far as the host knows. */
export interface RoundReach {
  readonly running: readonly Running[];
  /** Tokens past a sample's length on the host that rounds in flight, and this one, may write. */
  readonly ahead: number;
}

/**
 * The draft model in one run, a leaf a sample off its own copy of the prompt's KV. A round's first step reads the
 * pending token and those before it that the model lacks: one after a draft was kept whole, or as many as plain steps
 * have added; then a step a guess. A rejected tail is written over, as in the target's cache.
 */
export class DraftRun implements DraftStrategy {
  readonly name: string;
  readonly #model: DraftModel;
  readonly #options: DraftRunOptions;
  readonly #leaves = new Map<number, Sequence>();
  #prefix: Sequence | undefined;
  /** Plain rounds since the last one with a draft. */
  #plainRounds = 0;
  #rows = 0;
  #arranged = '';

  constructor(model: DraftModel, options: DraftRunOptions) {
    this.name = model.name;
    this.#model = model;
    this.#options = options;
  }

  /** Recordings made so far; see `Stepper.recorded`. */
  get recorded(): number {
    return this.#model.stepper.recorded;
  }

  /** Changes when a buffer that others read was replaced. */
  get version(): string {
    return this.#model.version;
  }

  /** False once plain steps have left the draft model too far behind: it is out for the rest of the run. */
  get keepsUp(): boolean {
    return this.#plainRounds + 2 <= catchUp;
  }

  /** Tells of a round without a draft. A model that can no longer catch up gives its pages back. */
  skip(): void {
    this.#plainRounds++;
    if (!this.keepsUp) this.end();
  }

  /** Reserves what a round writes, and plans its steps. Call it before {@link propose}. */
  async prepare({ running, ahead }: RoundReach): Promise<void> {
    const { stepper, nextPlan } = this.#model;
    this.#prefix ??= await this.#begin();
    const rows = bucketOf(this.#plainRounds + 2);
    this.#plainRounds = 0;
    this.#keepOnly(running);
    const step: Running[] = [];
    let changed = false;
    for (const { index, leaf: target } of running) {
      const leaf = this.#leaf(index);
      changed = leaf.reserve(Math.max(rows, target.length + ahead - leaf.length)) || changed;
      step.push({ index, leaf });
    }
    const arranged = `${rows}: ${step.map(({ index }) => index).join()}`;
    if (!changed && arranged === this.#arranged) return;
    this.#rows = rows;
    this.#arranged = arranged;
    stepper.ensureRows(running.length * rows);
    stepper.arrange(step, rows);
    nextPlan.update(step.map(({ leaf }) => ({ sequence: leaf, rows: 1 })));
  }

  async #begin(): Promise<Sequence> {
    const { samples, ownTokens, limit, prefix } = this.#options;
    const { stepper } = this.#model;
    const { cache } = stepper;
    const ahead = 2 * (limit + 1) + catchUp;
    const pages = cache.kinds.map((kind) => samples * cache.pagesFor(kind, ownTokens + catchUp, ahead));
    const sequence = await prefix(pages);
    await stepper.ensurePages(`the KV of ${samples} drafts`, pages);
    return sequence;
  }

  #leaf(index: number): Sequence {
    let leaf = this.#leaves.get(index);
    if (!leaf) {
      leaf = this.#prefix?.fork() ?? this.#model.stepper.cache.sequence();
      this.#leaves.set(index, leaf);
    }
    return leaf;
  }

  #keepOnly(running: readonly Running[]): void {
    const kept = new Set(running.map(({ index }) => index));
    for (const [index, leaf] of this.#leaves) {
      if (kept.has(index)) continue;
      leaf.release();
      this.#leaves.delete(index);
    }
  }

  async propose({ length, samples, origin }: DraftRound): Promise<readonly Recording[]> {
    const { stepper, sampler } = this.#model;
    const { state, adjusting } = this.#options;
    const shape = this.#shape(samples, origin);
    sampler.ensure(shape.rows, adjusting);
    const key = `${this.#nameOf(shape)} ${this.#model.version} ${state.version}`;
    const first = await stepper.recording(`first ${shape.rows} ${key}`, (pass) => this.#first(pass, shape));
    if (length === 1) return [first];
    const next = await stepper.recording(`next ${key}`, (pass) => this.#next(pass, shape));
    return [first, ...new Array<Recording>(length - 1).fill(next)];
  }

  /** Compiles what rounds of so many samples take; see `Stepper.foresee`. */
  foresee(samples: number, origin: number): void {
    const shape = this.#shape(samples, origin);
    this.#model.stepper.foresee(`${shape.rows} ${this.#nameOf(shape)}`, (pass) => {
      this.#first(pass, shape);
      this.#next(pass, shape);
    });
  }

  #shape(samples: number, origin: number): StepShape {
    return { rows: bucketOf(samples * this.#rows), samples, origin, laws: this.laws };
  }

  #nameOf({ samples, origin }: StepShape): string {
    const { adjusting, rule } = this.#options;
    return `${samples} ${adjusting ? 'adjusted' : ''} ${rule.name} ${origin}`;
  }

  #first(pass: Pass, shape: StepShape): void {
    const { stepper } = this.#model;
    layOutRows(pass, { ...this.#options.state.tensors, slots: stepper.slots, batch: stepper.batch }, 'draft');
    this.#step(pass, shape);
  }

  #next(pass: Pass, shape: StepShape): void {
    this.#step(pass, { ...shape, rows: shape.samples, attention: this.#model.nextPlan });
  }

  #step(pass: Pass, { rows, samples, origin, laws, attention }: StepShape): void {
    const { stepper, sampler } = this.#model;
    const { state, adjusting } = this.#options;
    const { batch, model } = stepper;
    const { draftSequences: sequences, states, history } = state.tensors;
    const step = { rows, adjusting, sequences, ...(attention ? { attention } : {}) };
    const { adjusted, picks } = sampler.record(pass, stepper, state, step);
    const tensors = { batch, sequences, states, history, picks };
    const { vocabSize: vocab } = model.config;
    if (laws) keepLaw(pass, { ...tensors, adjusted, laws }, { vocab, samples });
    advanceDraft(pass, tensors, { origin });
  }

  /**
   * Tells of a round that was read: the sample's pending token was at `before` and is at `after`.
   * @param rows rows of the target's step: guesses + 1.
   */
  commit(index: number, { before, after, rows }: { before: number; after: number; rows: number }): void {
    const leaf = this.#leaves.get(index);
    if (!leaf || rows === 1) return;
    const stored = Math.min(Math.max(leaf.length, before + rows - 1), after);
    if (stored > leaf.length) leaf.commit(stored - leaf.length);
  }

  /** The laws that rule `rejection` reads. */
  get laws(): Laws | undefined {
    const { rule, samples, limit } = this.#options;
    return rule.needsLaws ? this.#model.laws(bucketOf(samples), limit) : undefined;
  }

  /** Gives its pages back. */
  end(): void {
    for (const leaf of this.#leaves.values()) leaf.release();
    this.#leaves.clear();
  }
}

interface StepShape {
  readonly rows: number;
  readonly samples: number;
  readonly origin: number;
  readonly laws: Laws | undefined;
  readonly attention?: DraftModel['nextPlan'];
}
