import type { Device, Pass, Recording } from '@ensample/tensor';
import type { RoundTensors } from './round.ts';

/** A round that strategies make guesses for. */
export interface DraftRound {
  readonly device: Device;
  /** Guess j of a running sample belongs at its position + 1 + j, for j below `length`; `clearGuesses` has run. */
  readonly tensors: RoundTensors;
  /** Most guesses a sample may have. */
  readonly length: number;
  /** Running samples, rounded up to a power of two: grids made for it serve fewer too. */
  readonly samples: number;
  /** The strategy's place in the list, from 1. Guesses carry it in their top 8 bits. */
  readonly origin: number;
  /**
   * Dispatches, recorded under a name once for all rounds with the same `samples`. What changes from round to round,
   * such as the draft length (`slots[0].y` − 1), is to be read on the device.
   */
  readonly record: (name: string, dispatches: (pass: Pass) => void) => Promise<Recording>;
}

/**
 * Where guesses come from. Strategies run in the order given, on the device, before the target's step. The first guess
 * for a place wins: a strategy fills places from the first empty one on, in order, and leaves none out.
 */
export interface DraftStrategy {
  readonly name: string;
  /** Recordings that write guesses, `token | origin << 24`, over `NONE` in the history; encoded in this order. */
  propose(round: DraftRound): Promise<readonly Recording[]>;
}
