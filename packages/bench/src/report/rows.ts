import type { WeightFormat } from '@ensample/tensor';

/** A decode step of n samples; `plainMs` reads the prompt for each sample. Times here and below are medians. */
export interface DecodeRow {
  readonly section: 'decode';
  readonly shape: string;
  readonly weights: WeightFormat;
  readonly context: number;
  readonly n: number;
  /** Tokens that each sample has of its own. */
  readonly own: number;
  readonly ms: number;
  readonly plainMs?: number;
  /** `plainMs` over `ms`. */
  readonly ratio?: number;
  /** The bytes that must be read at the card's bandwidth, and its share of `ms`. */
  readonly floorMs: number;
  readonly share: number;
  /** Largest difference of a logit between the two ways, relative. */
  readonly difference?: number;
}

/** A product of M rows with weights of outputs × columns. */
export interface MatmulRow {
  readonly section: 'matmul';
  readonly weights: WeightFormat;
  readonly rows: number;
  readonly outputs: number;
  readonly columns: number;
  readonly us: number;
  /** Bytes of weights over time. */
  readonly tbps: number;
  readonly error: number;
  readonly floorUs: number;
  readonly share: number;
  /** Of products so tall that arithmetic counts. */
  readonly tflops?: number;
}

/** A prompt of `tokens` tokens. */
export interface PrefillRow {
  readonly section: 'prefill';
  readonly shape: string;
  readonly weights: WeightFormat;
  readonly tokens: number;
  readonly ms: number;
  /** Of the layers' products; and with attention's. */
  readonly tflops: number;
  readonly tflopsWithAttention?: number;
}

/** What a warm step costs the host, and how long the device waits between steps. */
export interface HostRow {
  readonly section: 'host';
  readonly shape: string;
  readonly context?: number;
  readonly layers: number;
  readonly n: number;
  readonly dispatches: number;
  readonly jsMs: number;
  /** Of these in `submit`. */
  readonly submitMs?: number;
  readonly gpuMs: number;
  readonly idleMs: number;
  /** A token of the engine's own plain decoding. */
  readonly engineMs?: number;
}

/** Sampling's part of a step. */
export interface SamplingRow {
  readonly section: 'sampling';
  readonly vocab: number;
  readonly n: number;
  readonly us: number;
  readonly stepMs: number;
  readonly share: number;
}

/** Decoding with a draft of imposed acceptance, against plain decoding in the same run. */
export interface SpeculationRow {
  readonly section: 'speculation';
  readonly shape: string;
  readonly context: number;
  readonly n: number;
  readonly acceptance: number;
  readonly length: 'auto' | 'bass' | number;
  readonly msPerToken: number;
  readonly plainMsPerToken: number;
  readonly speedup: number;
  readonly tokensPerRound: number;
  /** Useful FLOPs over the card's peak, where that is known. */
  readonly utilisation?: number;
}

/** A layout of MixAttention with as many sequences as memory holds; ratios are over the standard layout. */
export interface MixAttentionRow {
  readonly section: 'mixattention';
  readonly preset: string;
  readonly tokensPerSecond: number;
  readonly decodeMs: number;
  readonly sequences: number;
  readonly prefillMs: number;
  readonly kvBytesPerSequence: number;
  readonly kvRatio: number;
  readonly ratio: number;
}

/** A plain loop that reads, on a device whose bandwidth was not known. */
export interface BandwidthRow {
  readonly section: 'bandwidth';
  readonly tbps: number;
}

/** A row of a file of `bench gpu`. */
export type GpuRow =
  | BandwidthRow
  | DecodeRow
  | HostRow
  | MatmulRow
  | MixAttentionRow
  | PrefillRow
  | SamplingRow
  | SpeculationRow;

/** PyTorch's step, by `packages/bench/anchor/anchor.py`. */
export interface AnchorRow {
  readonly section: 'anchor';
  readonly shape: string;
  readonly context: number;
  readonly n: number;
  readonly ms: number;
  readonly way: 'bifurcated' | 'sdpa' | 'no attention';
}

/** A file of `bench gpu`: one device, one tier. */
export interface GpuRun {
  readonly benchmark: 'gpu';
  readonly device: string;
  readonly driver: string;
  readonly tier: string;
  readonly date: string;
  /** Whether shaders clamp their indexes; false where Dawn's toggle `disable_robustness` was on. */
  readonly robustness: boolean;
  /** What was not measured, and why. */
  readonly skipped?: readonly string[];
  readonly rows: readonly GpuRow[];
}

/** A file of the anchor. */
export interface AnchorRun {
  readonly benchmark: 'anchor';
  readonly device: string;
  readonly driver: string;
  readonly torch: string;
  readonly date: string;
  /** Read and written bytes of a device copy. */
  readonly copyTbps?: number;
  /** f16, 4096 × 4096 × 4096. */
  readonly gemmTflops?: number;
  readonly rows: readonly AnchorRow[];
}

/** Rows of one section. */
export function section<S extends GpuRow['section']>(
  run: GpuRun,
  name: S,
): Extract<GpuRow, { section: S }>[] {
  return run.rows.filter((row): row is Extract<GpuRow, { section: S }> => row.section === name);
}

/** The rows by a key, in the order in which keys first occur. */
export function grouped<Row, Key>(rows: readonly Row[], key: (row: Row) => Key): [Key, Row[]][] {
  const groups = new Map<Key, Row[]>();
  for (const row of rows) groups.set(key(row), [...(groups.get(key(row)) ?? []), row]);
  return [...groups];
}

/** The distinct values, in ascending order. */
export function ascending(values: readonly number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}
