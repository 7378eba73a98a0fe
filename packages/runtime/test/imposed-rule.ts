import type { AcceptanceRule } from '@ensample/spec-decode';
import { invariant, kernel, sequenceChunk, type Device, type GpuTensor } from '@ensample/tensor';

/** Keeps a guess or takes another token, and writes down what it judged: an invocation a row. */
const imposeBody = /* wgsl */ `
@group(0) @binding(0) var<storage, read> batch: array<vec4u>;            // [1 + rows]: token, position, leaf, sequence
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;
@group(0) @binding(2) var<storage, read> states: array<State>;
@group(0) @binding(3) var<storage, read> history: array<u32>;
@group(0) @binding(4) var<storage, read> logits: array<f32>;             // [rows, VOCAB]
@group(0) @binding(5) var<storage, read_write> picks: array<vec4u>;      // [rows]: token, log-probability
@group(0) @binding(6) var<storage, read_write> trace: array<vec2u>;      // [sequences, POSITIONS]: pending position, guess

fn mix(word: u32) -> u32 {
  var h = word;
  h = (h ^ (h >> 16u)) * 0x85ebca6bu;
  h = (h ^ (h >> 13u)) * 0xc2b2ae35u;
  return h ^ (h >> 16u);
}

fn keeps(seed: u32, position: u32) -> bool {
  let share = mix(seed) & 255u;
  if (share < 32u || share >= 224u) { return share >= 224u; }
  return (mix(seed ^ (position * 0x9e3779b9u)) & 255u) < share;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let r = id.x;
  if (r >= batch[0].x) { return; }
  let row = batch[1u + r];
  let s = sequences[row.w];
  let index = r % batch[0].y;
  let pending = states[row.w].position;
  if (index + 1u == batch[0].y || pending + index != row.y || row.y + 1u >= s.end) { return; }
  let word = history[history_index(s, row.y + 1u)];
  if (word == NONE) { return; }
  trace[row.w * POSITIONS + row.y + 1u] = vec2u(pending, word);
  let guess = word & TOKEN;
  let pick = picks[r];
  var token = guess;
  if (!keeps(s.seed.x, row.y + 1u)) { token = select(pick.x, (guess + 1u) % VOCAB, pick.x == guess); }
  let log_sum = logits[r * VOCAB + pick.x] - bitcast<f32>(pick.y);
  picks[r] = vec4u(token, bitcast<u32>(logits[r * VOCAB + token] - log_sum), pick.z, 0u);
}
`;

function mix(word: number): number {
  let h = word >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b) >>> 0;
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35) >>> 0;
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * Whether the rule keeps a guess: decided by seed and position alone. One seed in eight keeps all, one in eight none,
 * the others a share of their own.
 */
export function keeps(seed: number, position: number): boolean {
  const share = mix(seed) & 255;
  if (share < 32 || share >= 224) return share >= 224;
  return (mix(seed ^ Math.imul(position, 0x9e3779b9)) & 255) < share;
}

/** A guess that decided about a token of the final text. */
export interface JudgedGuess {
  readonly sample: number;
  readonly position: number;
  readonly token: number;
  readonly guess: number;
  /** The strategy's place in the list, from 1. */
  readonly origin: number;
}

/** A rule from outside: {@link keeps} decides, and a token that is not the guess takes the place of those not kept. */
export class ImposedRule implements AcceptanceRule {
  readonly name = 'imposed';
  readonly needsLaws = false;
  readonly #device: Device;
  readonly #trace: GpuTensor<'u32'>;
  readonly #positions: number;
  #states: GpuTensor<'u32'> | undefined;

  /** @param positions longest text, prompt included. */
  constructor(device: Device, samples: number, positions: number) {
    this.#device = device;
    this.#positions = positions;
    this.#trace = device.tensor('u32', [samples, positions, 2]);
  }

  judge: NonNullable<AcceptanceRule['judge']> = (pass, tensors, { vocab, rows }) => {
    const { batch, sequences, states, history, logits, picks } = tensors;
    this.#states = states;
    const constants = { VOCAB: vocab, POSITIONS: this.#positions };
    const code = kernel('impose', { constants }, sequenceChunk, imposeBody);
    const trace = this.#trace;
    pass.run(code, { batch, sequences, states, history, logits, picks, trace }, [Math.ceil(rows / 64)]);
  };

  /** Forgets the run before. */
  clear(): void {
    this.#device.write(this.#trace, new Uint32Array(this.#trace.byteLength / 4));
  }

  /** Where the samples of the last run stand on the device; see `State` in sample.wgsl.ts. */
  async states(): Promise<Uint32Array> {
    invariant(this.#states, () => 'nothing was judged');
    return this.#device.read(this.#states);
  }

  /** The guesses that decided about the tokens of the last run, which began at position `start`. */
  async judged(texts: readonly (readonly number[])[], start: number): Promise<JudgedGuess[]> {
    const trace = await this.#device.read(this.#trace);
    const judged: JudgedGuess[] = [];
    texts.forEach((tokens, sample) => {
      let pending = start - 1;
      tokens.forEach((token, i) => {
        const position = start + i;
        const at = 2 * (sample * this.#positions + position);
        const [round = 0, word = 0] = trace.subarray(at, at + 2);
        const guess = word & 0xffffff;
        // Without a guess of the round under way, it was the round's last token; after a guess not kept, too.
        if (round === pending) judged.push({ sample, position, token, guess, origin: word >>> 24 });
        if (round !== pending || token !== guess) pending = position;
      });
    });
    return judged;
  }

  destroy(): void {
    this.#trace.destroy();
  }
}
