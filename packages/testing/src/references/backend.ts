import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';

// The import alone registers it, but bundlers drop an import of which nothing is used.
if (!('cpu' in tf.engine().registryFactory)) tf.registerBackend('cpu', () => new MathBackendCPU());

tf.env().set('IS_TEST', true); // else its CPU backend advertises tfjs-node

/** Computes on tfjs's CPU backend, whatever backend is the current one, and frees what was made on the way. */
export function run(compute: () => tf.Tensor): Float32Array<ArrayBuffer> {
  const current = tf.getBackend();
  void tf.setBackend('cpu'); // takes effect at once, since the backend is ready
  try {
    let values = new Float32Array();
    // Not by tidy's result: it looks through every number of that for tensors.
    tf.tidy(() => {
      values = Float32Array.from(compute().dataSync());
    });
    return values;
  } finally {
    if (current && current !== 'cpu') void tf.setBackend(current);
  }
}
