/** The settings that shape a distribution. */
export interface Filters {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
}

/**
 * The distribution that a token is drawn from, in f64: temperature, then top-k, then top-p of what is left
 * (Holtzman et al. 2020), then min-p (Nguyen et al. 2024). Tokens with equal logits stay or go together.
 */
export function samplingReference(logits: ArrayLike<number>, filters: Filters): number[] {
  const { temperature, topK, topP, minP } = filters;
  const values = Array.from(logits);
  const largest = Math.max(...values);
  const weights = values.map((value) => Math.exp((value - largest) / temperature));
  const sorted = [...weights].sort((a, b) => b - a);
  let least = topK > 0 ? (sorted[topK - 1] ?? 0) : 0;
  if (topP < 1) {
    const kept = sorted.filter((weight) => weight >= least);
    const wanted = topP * kept.reduce((a, b) => a + b, 0);
    let mass = 0;
    least = Math.max(least, kept.find((weight) => (mass += weight) >= wanted) ?? 0);
  }
  least = Math.max(least, minP); // the largest weight is 1
  const left = weights.map((weight) => (weight >= least ? weight : 0));
  const total = left.reduce((a, b) => a + b, 0);
  return left.map((weight) => weight / total);
}

/** Philox4x32-10 (Salmon et al. 2011, table 2). */
export function philoxReference(counter: readonly number[], key: readonly number[]): number[] {
  let [a, b, c, d] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k, l] = key.map(BigInt) as [bigint, bigint];
  const low = 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const p = a * 0xd2511f53n;
    const q = c * 0xcd9e8d57n;
    [a, b, c, d] = [(q >> 32n) ^ b ^ k, q & low, (p >> 32n) ^ d ^ l, p & low];
    k = (k + 0x9e3779b9n) & low;
    l = (l + 0xbb67ae85n) & low;
  }
  return [a, b, c, d].map(Number);
}

/** The token that Gumbel-max draws with Philox noise keyed by (seed, position, token id); the lowest id of equals. */
export function drawReference(
  logits: ArrayLike<number>,
  filters: Filters,
  { seed, position }: { seed: number; position: number },
): number {
  const key = [seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
  const scores = samplingReference(logits, filters).map((probability, id) => {
    const bits = philoxReference([id >> 2, position, 0, 0], key)[id & 3] ?? 0;
    return Math.log(probability) - Math.log(-Math.log1p(-(bits + 0.5) / 2 ** 32));
  });
  return scores.indexOf(Math.max(...scores));
}

/** The settings that depend on what a sequence has said. */
export interface Penalties {
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
}

/**
 * Logits after bias and penalties: repetition (Keskar et al. 2019, §4.1; for tokens of prompt and output), presence
 * and frequency (as OpenAI's API defines them; of the output).
 */
export function adjustReference(
  logits: ArrayLike<number>,
  bias: ArrayLike<number>,
  seen: { readonly prompt: readonly number[]; readonly output: readonly number[] },
  { repetitionPenalty, presencePenalty, frequencyPenalty }: Penalties,
): number[] {
  return Array.from(logits, (logit, id) => {
    const times = seen.output.filter((token) => token === id).length;
    let value = logit + (bias[id] ?? 0);
    if (times > 0 || seen.prompt.includes(id))
      value = value > 0 ? value / repetitionPenalty : value * repetitionPenalty;
    return times > 0 ? value - presencePenalty - frequencyPenalty * times : value;
  });
}
