import * as tf from '@tensorflow/tfjs-core';
import { run } from './backend.ts';

/** Queries, and all keys and values that a sequence has, in no special order. */
export interface AttentionInput {
  /** `[queries, heads, headDim]`, already rotated. */
  readonly q: Float32Array;
  /** `[keys, kvHeads, headDim]`, already rotated. */
  readonly k: Float32Array;
  /** `[keys, kvHeads, headDim]` */
  readonly v: Float32Array;
  readonly headDim: number;
  /** Position of each query. */
  readonly positions: readonly number[];
  /** Position of each key. */
  readonly keyPositions: readonly number[];
  /** A query at t sees the keys t − window + 1 … t. Default: all up to t. */
  readonly window?: number;
}

/**
 * softmax(q·kᵀ / √d + mask)·v, where query head h reads key/value head ⌊h · kvHeads / heads⌋
 * (Vaswani et al. 2017, eq. 1; grouped queries: Ainslie et al. 2023; windows: Beltagy et al. 2020, §3.1).
 * @returns `[queries, heads, headDim]`
 */
export function attentionReference(input: AttentionInput): Float32Array<ArrayBuffer> {
  const { headDim, positions, keyPositions } = input;
  const [T, S] = [positions.length, keyPositions.length];
  const G = input.k.length / (S * headDim);
  const H = input.q.length / (T * headDim);
  return run(() => {
    // Query heads that share a key/value head become more rows of it: [G, H/G · T, D].
    const q = tf.reshape(tf.transpose(tf.tensor3d(input.q, [T, H, headDim]), [1, 0, 2]), [G, -1, headDim]);
    const k = tf.transpose(tf.tensor3d(input.k, [S, G, headDim]), [1, 0, 2]);
    const v = tf.transpose(tf.tensor3d(input.v, [S, G, headDim]), [1, 0, 2]);
    const scores = tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(headDim));
    const masked = tf.add(tf.reshape(scores, [H, T, S]), mask(input));
    const mixed = tf.matMul(tf.reshape(tf.softmax(masked), [G, -1, S]), v);
    return tf.transpose(tf.reshape(mixed, [H, T, headDim]), [1, 0, 2]);
  });
}

/** 0 where a query sees a key, −∞ elsewhere: `[queries, keys]`. */
function mask({ positions, keyPositions, window = Infinity }: AttentionInput): tf.Tensor2D {
  const sees = (t: number, s: number) => s <= t && t - s < window;
  return tf.tensor2d(positions.map((t) => keyPositions.map((s) => (sees(t, s) ? 0 : -Infinity))));
}
