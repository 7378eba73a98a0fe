import * as tf from '@tensorflow/tfjs-core';
import { run } from './backend.ts';

type Values = Float32Array<ArrayBuffer>;

/** X·Wᵀ for x `[rows, columns]` and weights `[outputs, columns]` (dequantised): `[rows, outputs]`. */
export function matmulReference(x: Values, weights: Values, columns: number): Values {
  return run(() =>
    tf.matMul(tf.tensor2d(x, [x.length / columns, columns]), matrix(weights, columns), false, true),
  );
}

/** RMSNorm, x / √(mean(x²) + ε) ⊙ g, of each row (Zhang and Sennrich 2019, eq. 4, with ε inside the root). */
export function rmsNormReference(x: Values, weight: Values, eps: number): Values {
  return run(() => {
    const rows = matrix(x, weight.length);
    const meanSquare = tf.mean(tf.square(rows), 1, true);
    return tf.mul(tf.div(rows, tf.sqrt(tf.add(meanSquare, eps))), tf.tensor1d(weight));
  });
}

/**
 * Rotary positions of x `[rows, heads, headDim]`: x·cos(mθ) + rotateHalf(x)·sin(mθ) with θᵢ = base^(−2i/d)
 * (Su et al. 2021, eq. 34; pairs are (i, i + d/2), as in Llama's Hugging Face weights).
 */
export function ropeReference(
  x: Values,
  {
    heads,
    headDim,
    positions,
    theta,
  }: { heads: number; headDim: number; positions: readonly number[]; theta: number },
): Values {
  const half = headDim / 2;
  const angles = positions.map((m) => Array.from({ length: half }, (_, i) => m * theta ** (-i / half)));
  const table = (f: (angle: number) => number) =>
    tf.tensor3d(angles.map((row) => [[...row.map(f), ...row.map(f)]]));
  return run(() => {
    const heads3 = tf.tensor3d(x, [positions.length, heads, headDim]);
    const [front, back] = tf.split(heads3, 2, 2) as [tf.Tensor, tf.Tensor];
    const turned = tf.concat([tf.neg(back), front], 2);
    return tf.add(tf.mul(heads3, table(Math.cos)), tf.mul(turned, table(Math.sin)));
  });
}

/** {@link ropeReference} of heads whose pairs are neighbours, (2i, 2i + 1). */
export function ropePairsReference(x: Values, options: Parameters<typeof ropeReference>[1]): Values {
  const { headDim } = options;
  const half = headDim / 2;
  const apart = (i: number) => i - (i % headDim) + ((i % headDim) >> 1) + (i % 2) * half;
  const halves = new Float32Array(x.length);
  x.forEach((value, i) => (halves[apart(i)] = value));
  const turned = ropeReference(halves, options);
  return x.map((_, i) => turned[apart(i)]!);
}

/** SwiGLU, swish(gate) ⊙ up (Shazeer 2020, eq. 5), where each row of x is gate then up. */
export function swigluReference(x: Values, width: number): Values {
  return run(() => {
    const [gate, up] = tf.split(matrix(x, 2 * width), 2, 1) as [tf.Tensor, tf.Tensor];
    return tf.mul(tf.mul(gate, tf.sigmoid(gate)), up);
  });
}

/** SwiGLU of a product, swish(X·Gᵀ) ⊙ X·Uᵀ, where the weights `[2 · width, columns]` are rows of G and of U in turns. */
export function gatedReference(x: Values, weights: Values, columns: number): Values {
  return run(() => {
    const rows = matrix(x, columns);
    const [G, U] = tf.unstack(tf.tensor3d(weights, [weights.length / columns / 2, 2, columns]), 1);
    const gate = tf.matMul(rows, G as tf.Tensor2D, false, true);
    return tf.mul(tf.mul(gate, tf.sigmoid(gate)), tf.matMul(rows, U as tf.Tensor2D, false, true));
  });
}

/** Rows of an embedding table (dequantised). */
export function embedReference(weights: Values, columns: number, tokens: readonly number[]): Values {
  return run(() => tf.gather(matrix(weights, columns), tf.tensor1d([...tokens], 'int32')));
}

/** softmax(x) of each row. */
export function softmaxReference(x: Values, width: number): Values {
  return run(() => tf.softmax(matrix(x, width)));
}

/** log softmax(x) of each row. */
export function logSoftmaxReference(x: Values, width: number): Values {
  return run(() => tf.logSoftmax(matrix(x, width)));
}

function matrix(values: Values, columns: number): tf.Tensor2D {
  return tf.tensor2d(values, [values.length / columns, columns]);
}
