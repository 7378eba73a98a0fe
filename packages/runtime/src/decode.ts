import { roundsInFlight, type Sequence } from '@ensample/kv-cache';
import {
  accept,
  clearGuesses,
  layOutRows,
  status,
  type AcceptanceRule,
  type DraftLengthController,
  type DraftStrategy,
} from '@ensample/spec-decode';
import { invariant, InvalidOptionError, tally, type Pass, type Recording } from '@ensample/tensor';
import { bucketOf, smallerBucket } from './buckets.ts';
import { Counters } from './counters.ts';
import type { DraftRun } from './draft-run.ts';
import { Readback, type ReadRows, type RowResult } from './readback.ts';
import type { RunState } from './run-state.ts';
import type { Sampler } from './sampler.ts';
import type { Running, Stepper } from './stepper.ts';

/** A token of one sample. */
export interface SampleResult extends RowResult {
  readonly index: number;
}

/** What a {@link Decode} works with. */
export interface DecodeOptions {
  readonly stepper: Stepper;
  readonly sampler: Sampler;
  readonly state: RunState;
  readonly samples: number;
  /** Whether bias and penalties apply. */
  readonly adjusting: boolean;
  /** Tokens that the longest sample may have. */
  readonly maxTokens: number;
  readonly rule: AcceptanceRule;
  /** Round k drafts as `lengths[k mod lengths.length]` says. */
  readonly lengths: readonly DraftLengthController[];
  /** Longest draft that `lengths` may ask for. */
  readonly limit: number;
  /** In order; the draft model's run, if any, is `draft`. */
  readonly strategies: readonly DraftStrategy[];
  readonly draft?: DraftRun | undefined;
}

interface Row extends Running {
  /** Stopped, as far as the host knows; the row idles until the batch is compacted. */
  stopped: boolean;
}

interface Round {
  /** Sample of each slot when the round was submitted. */
  readonly samples: readonly Row[];
  /** Rows of each: guesses + 1. */
  readonly rows: number;
  readonly controller: DraftLengthController;
  readonly submitted: number;
  /** Whether something had to be compiled or allocated first, so that its time says little. */
  readonly fresh: boolean;
  readonly read: Promise<ReadRows>;
}

/**
 * Decodes all samples of a run in rounds: guesses, one step of the target for all rows, acceptance; a plain step where
 * the draft length is 0. Always one round ahead of what the host has read. Each sample keeps its own length; stopped
 * ones idle, and when half have stopped, the rest move together.
 */
export class Decode {
  readonly counters: Counters;
  readonly #options: DecodeOptions;
  readonly #readback: Readback;
  readonly #inFlight: Round[] = [];
  /** In the plan's order. */
  #rows: Row[] = [];
  #bucket = 0;
  /** Rows a sample of the present plan; 0: there is none. */
  #planned = 0;
  #lastRead = 0;

  constructor(options: DecodeOptions) {
    this.#options = options;
    const { stepper, samples, limit, strategies } = options;
    this.counters = new Counters(strategies.length);
    this.#readback = new Readback(stepper.device, samples * (limit + 1), roundsInFlight + 1);
  }

  /** Forks a leaf per sample off `prefix`. */
  begin(prefix: Sequence): void {
    const { samples } = this.#options;
    this.#rows = Array.from({ length: samples }, (_, index) => ({
      index,
      leaf: prefix.fork(),
      stopped: false,
    }));
    this.#bucket = bucketOf(samples);
  }

  /** Submits one round and the copying of its results. */
  async submit(): Promise<void> {
    const { stepper, state, lengths } = this.#options;
    const controller = lengths[this.counters.steps % lengths.length];
    invariant(controller, () => 'a run without a draft length');
    const length = this.#lengthFor(controller);
    const recorded = this.#recorded;
    this.#arrange(length + 1);
    const recordings = [...(await this.#guess(length)), await this.#step(length)];
    const encoder = stepper.device.gpu.createCommandEncoder();
    for (const recording of recordings) recording.encode(encoder);
    const copied = this.#readback.copy(encoder, state.tensors.results, this.#rows.length * (length + 1));
    stepper.device.gpu.queue.submit([encoder.finish()]);
    const submitted = performance.now();
    const read = copied();
    // Awaited later: a rejection must not count as unhandled until then.
    read.catch(() => undefined);
    const samples = this.#rows;
    const fresh = recorded !== this.#recorded;
    this.#inFlight.push({ samples, rows: length + 1, controller, submitted, fresh, read });
    this.counters.submitted(stepper, length);
    this.#foresee(length);
  }

  get #recorded(): number {
    const { stepper, draft } = this.#options;
    return stepper.recorded + (draft?.recorded ?? 0);
  }

  /** Without strategies, or once the only one has fallen behind, rounds are plain. */
  #lengthFor(controller: DraftLengthController): number {
    const { strategies, draft, limit } = this.#options;
    const able = strategies.some((strategy) => strategy !== draft || draft.keepsUp);
    return able ? Math.min(controller.length, limit) : 0;
  }

  /** Tokens that rounds in flight may add to a sample. */
  get #pending(): number {
    return this.#inFlight.reduce((sum, { rows }) => sum + rows, 0);
  }

  /** Compacts where it pays, reserves what the round may write, and plans it where anything changed. */
  #arrange(rows: number): void {
    const { stepper } = this.#options;
    const running = this.#rows.filter((row) => !row.stopped);
    let changed = this.#planned !== rows;
    if (bucketOf(running.length) < this.#bucket) {
      for (const row of this.#rows) if (row.stopped) row.leaf.release();
      this.#rows = running;
      this.#bucket = bucketOf(running.length);
      changed = true;
    }
    // A stopped row is in the plan until it is compacted away, so it too needs room.
    for (const { leaf } of this.#rows) changed = leaf.reserve(this.#pending + rows) || changed;
    if (!changed) return;
    stepper.ensureRows(this.#rows.length * rows);
    this.#rows = stepper.arrange(this.#rows, rows);
    this.#planned = rows;
  }

  /** Recordings that fill the places for guesses. */
  async #guess(length: number): Promise<Recording[]> {
    const { stepper, state, strategies, draft } = this.#options;
    if (length === 0) {
      draft?.skip();
      return [];
    }
    const tensors = { ...state.tensors, slots: stepper.slots };
    const samples = this.#bucket;
    const record = (name: string, dispatches: (pass: Pass) => void) =>
      stepper.recording(`${name} ${samples} ${state.version}`, dispatches);
    const recordings = [await record('clear', (pass) => clearGuesses(pass, tensors))];
    for (const [i, strategy] of strategies.entries()) {
      if (strategy === draft) {
        if (!draft.keepsUp) continue;
        await draft.prepare({ running: this.#rows, ahead: this.#pending + length + 1 });
      }
      const round = { device: stepper.device, tensors, length, samples, origin: i + 1 };
      const named = (name: string, dispatches: (pass: Pass) => void) => record(`${i} ${name}`, dispatches);
      recordings.push(...(await strategy.propose({ ...round, record: named })));
    }
    return recordings;
  }

  /** The target's step. */
  #step(length: number): Promise<Recording> {
    const { stepper, sampler, state, adjusting, draft } = this.#options;
    const rows = bucketOf(this.#bucket * (length + 1));
    sampler.ensure(rows, adjusting);
    const buffers = `${sampler.version} ${state.version} ${draft?.version ?? ''}`;
    const name = `${this.#roundName(rows, length)} ${buffers}`;
    return stepper.recording(name, (pass) => this.#round(pass, rows, length));
  }

  /** Once some samples have stopped, rounds have fewer rows: their kernels are compiled before that. */
  #foresee(length: number): void {
    if (this.#bucket === 1) return;
    const { stepper, draft } = this.#options;
    const samples = smallerBucket(this.#bucket);
    const rows = bucketOf(samples * (length + 1));
    stepper.foresee(this.#roundName(rows, length), (pass) => this.#round(pass, rows, length));
    if (length > 0) draft?.foresee(samples, this.#modelOrigin);
  }

  #roundName(rows: number, length: number): string {
    const { adjusting, rule } = this.#options;
    return `round ${rows} ${adjusting ? 'adjusted' : ''} ${length > 0 ? rule.name : 'plain'}`;
  }

  /** Records the target's step: rows, model, draws, acceptance. */
  #round(pass: Pass, rows: number, length: number): void {
    const { stepper, sampler, state, adjusting, rule, draft } = this.#options;
    const { batch, slots, model } = stepper;
    const { vocabSize: vocab } = model.config;
    const tensors = { ...state.tensors, slots, batch };
    layOutRows(pass, tensors);
    const drawn = sampler.record(pass, stepper, state, { rows, adjusting, sequences: tensors.sequences });
    if (length > 0) {
      const laws = draft?.laws;
      const judging = { ...tensors, ...drawn, ...(laws ? { laws } : {}) };
      rule.judge?.(pass, judging, { vocab, rows, model: this.#modelOrigin });
    }
    accept(pass, { ...tensors, picks: drawn.picks }, { vocab });
    if (adjusting && state.adjusting) tally(pass, { ...tensors, ...state.adjusting }, { vocab });
  }

  /** The draft model's place among the strategies, from 1; 0 without one. */
  get #modelOrigin(): number {
    const { strategies, draft } = this.#options;
    return draft ? strategies.indexOf(draft) + 1 : 0;
  }

  /** Samples not known to have stopped. */
  get running(): number {
    return this.#rows.reduce((count, { stopped }) => count + (stopped ? 0 : 1), 0);
  }

  /** Whether another round may be submitted before the oldest is read. */
  get mayRunAhead(): boolean {
    const { maxTokens } = this.#options;
    return this.running > 0 && this.#inFlight.length < roundsInFlight && this.counters.steps < maxTokens;
  }

  /**
   * Tokens of the oldest round that is in flight, of the samples that were running, each sample's in order.
   * @throws InvalidOptionError when a strategy guessed what is no token.
   */
  async read(): Promise<SampleResult[]> {
    const round = this.#inFlight.shift();
    invariant(round, () => 'no round in flight');
    const { rows: results, at } = await round.read;
    const accepted: number[] = [];
    const tokens = round.samples.flatMap((row, slot) => {
      const own = results.slice(slot * round.rows, (slot + 1) * round.rows);
      if (row.stopped || own[0]?.status === status.idle) return [];
      const drawn = this.#take(row, own, round.rows);
      accepted.push(own.filter(({ kept }) => kept).length);
      return drawn.map((result) => ({ ...result, index: row.index }));
    });
    const ms = at - Math.max(round.submitted, this.#lastRead);
    this.#lastRead = at;
    round.controller.observe({ length: round.rows - 1, accepted, ms: round.fresh ? undefined : ms });
    return tokens;
  }

  #take({ index, leaf }: Row, results: readonly RowResult[], rows: number): RowResult[] {
    const drawn = results.filter((result) => result.status !== status.idle);
    const invalid = results.find((result) => result.status === status.invalid);
    if (invalid) throw this.#invalidGuess(invalid);
    this.counters.read(results);
    const before = leaf.length;
    leaf.commit(drawn.length);
    this.#options.draft?.commit(index, { before, after: before + drawn.length, rows });
    return drawn;
  }

  #invalidGuess({ token, origin }: RowResult): InvalidOptionError {
    const { strategies, stepper } = this.#options;
    return new InvalidOptionError(
      `draft strategy ${strategies[origin - 1]?.name ?? origin} guessed token ${token}: ` +
        `ids of this model are integers from 0 to ${stepper.model.config.vocabSize - 1}`,
    );
  }

  /** Marks a sample as stopped; with `onDevice` the device is told too (it knows of stop tokens and limits itself). */
  stop(index: number, onDevice: boolean): void {
    const row = this.#rows.find((candidate) => candidate.index === index);
    if (!row || row.stopped) return;
    row.stopped = true;
    if (onDevice) this.#options.state.stop(index);
  }

  /** Waits for what is in flight and gives everything back. */
  async end(): Promise<void> {
    await Promise.allSettled(this.#inFlight.map(({ read }) => read));
    for (const { leaf } of this.#rows) leaf.release();
    this.#rows = [];
    this.#options.draft?.end();
    this.#readback.destroy();
  }
}
