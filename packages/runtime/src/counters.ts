import { status } from '@ensample/spec-decode';
import type { RowResult } from './readback.ts';
import type { Stepper } from './stepper.ts';

/** What became of one strategy's guesses in a run. */
export interface GuessCount {
  kept: number;
  /** Compared with the target's draw, and different. */
  missed: number;
  /** After one that missed, or after the sample's end: never compared. */
  unread: number;
}

/** Sums over the rounds of a run. */
export class Counters {
  /** Rounds, plain steps included. */
  steps = 0;
  /** Rounds with a draft. */
  drafts = 0;
  /** Draft lengths of these rounds added up. */
  draftLength = 0;
  /** In rounds with a draft: samples that ran, and tokens they gained. */
  sampleRounds = 0;
  sampleTokens = 0;
  readBytes = 0;
  readBytesUnshared = 0;
  /** Bytes of KV pages in use, at most. */
  kvBytes = 0;
  /** By strategy, in their order. */
  readonly guesses: readonly GuessCount[];

  /** @param strategies number of draft strategies. */
  constructor(strategies: number) {
    this.guesses = Array.from({ length: strategies }, () => ({ kept: 0, missed: 0, unread: 0 }));
  }

  /** Counts a round when it is submitted. */
  submitted({ attention, cache }: Stepper, length: number): void {
    this.steps++;
    this.drafts += length > 0 ? 1 : 0;
    this.draftLength += length;
    this.readBytes += attention.reads.planned;
    this.readBytesUnshared += attention.reads.perSequence;
    this.kvBytes = Math.max(this.kvBytes, cache.memory.used);
  }

  /** Counts what a round gave a sample that was running. */
  read(results: readonly RowResult[]): void {
    if (results.length === 1) return;
    this.sampleRounds++;
    for (const result of results) {
      const drawn = result.status !== status.idle;
      if (drawn) this.sampleTokens++;
      const count = this.guesses[result.origin - 1];
      if (!count) continue;
      if (result.kept) count.kept++;
      else if (drawn) count.missed++;
      else count.unread++;
    }
  }
}
