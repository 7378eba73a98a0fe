/** A seeded source of numbers, so that a failing test fails again. */
export interface Random {
  /** From 0 up to 1. */
  uniform(): number;
  /** An integer from 0 to `below` − 1. */
  integer(below: number): number;
  /** Standard normal values; every 61st or so is 30 times as large, as in the activations of real models. */
  normals(length: number): Float32Array<ArrayBuffer>;
}

const outlierRate = 1 / 61;
const outlierScale = 30;

/** mulberry32 (Tommy Ettinger, public domain): 32 bits of state are plenty for test data. */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  const value = () => normal() * (uniform() < outlierRate ? outlierScale : 1);
  return {
    uniform,
    integer: (below) => Math.floor(uniform() * below),
    normals: (length) => Float32Array.from({ length }, value),
  };
}
