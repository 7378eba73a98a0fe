import { openEnd, type KvCache, type RowPlace } from '@ensample/kv-cache';
import {
  invariant,
  isSoftware,
  type Device,
  type GpuTensor,
  type Grid,
  type Kernel,
  type Pass,
} from '@ensample/tensor';
import { recordAt, taskLists, withTasks, type PlannedTask, type TaskList } from './plan-words.ts';
import { paddedEnd, type RaggedSample } from './ragged.ts';

/** A step that has been planned for all samples, before its attention is recorded. */
export interface PlannedStep {
  readonly device: Device;
  readonly cache: KvCache;
  readonly plan: GpuTensor<'u32'>;
  /** What is in `plan`. */
  readonly words: Uint32Array<ArrayBuffer>;
  readonly samples: readonly RaggedSample[];
  /** One per sample. */
  readonly places: readonly RowPlace[];
  /** Query heads per key/value head. */
  readonly share: number;
  /** Who reads the prompt; see `Tiling` of `@ensample/bifurcated-attn`. */
  readonly reading: 'shared' | 'per-sequence';
}

/** One dispatch of attention, as the package records it. */
export interface AttendCall {
  readonly kernel: Kernel;
  readonly tensors: Readonly<Record<string, GpuTensor>>;
  readonly grid: Grid;
}

/** How a way runs attention; all else of the step is the same. */
export interface Attending {
  /** Records what the way has in place of one dispatch. */
  attend(pass: Pass, call: AttendCall): void;
  /** The tasks that all its dispatches run together. */
  readonly lists: readonly TaskList[];
  destroy(): void;
}

/** A way to attend over samples of different lengths. */
export interface Way {
  readonly name: 'ours' | 'BASS-SPLIT' | 'BASS-PAD';
  /** Makes room before the plan is made. */
  reserve(samples: readonly RaggedSample[]): void;
  prepare(step: PlannedStep): Attending;
}

/** One dispatch for all lengths: each sample's keys end at its rows' positions. What the product does. */
const ours: Way = {
  name: 'ours',
  reserve: reserveRows,
  prepare: ({ words, cache, share }) => ({
    attend: (pass, { kernel, tensors, grid }) => pass.run(kernel, tensors, grid),
    lists: taskLists(words, cache, share),
    destroy: () => undefined,
  }),
};

/**
 * BASS-SPLIT (arXiv 2404.15778, figure 4): one dispatch per sample, which finds only this sample's tasks in its plan and has
 * as many workgroups as they fill. A prompt that is read once for all is a dispatch more. All write to the same partial
 * results, so WebGPU runs them one after the other; they are merged together, as BASS keeps softmax batched.
 */
const split: Way = {
  name: 'BASS-SPLIT',
  reserve: reserveRows,
  prepare: ({ device, words, cache, share, reading, places }) => {
    const lists = taskLists(words, cache, share);
    const shared = (task: PlannedTask) => reading === 'shared' && task.stretch.end !== openEnd;
    const parts = places.map(({ firstRow, rows }) => {
      const own = ({ firstRow: row }: PlannedTask) => row >= firstRow && row < firstRow + rows;
      return (task: PlannedTask) => !shared(task) && own(task);
    });
    const plans = [...(reading === 'shared' ? [shared] : []), ...parts].map((keep) => ({
      plan: device.upload<'u32'>('u32', [words.length], withTasks(words, lists, keep)),
      tasks: Math.max(...lists.map(({ tasks }) => tasks.filter(keep).length)),
    }));
    return {
      attend: (pass, { kernel, tensors, grid: [x, y = 1] }) => {
        for (const { plan, tasks } of plans) {
          const grid = isSoftware(device.info)
            ? ([Math.min(x, tasks), y] as const)
            : ([x, Math.min(y, tasks)] as const);
          if (tasks > 0) pass.run(kernel, { ...tensors, plan }, grid);
        }
      },
      lists,
      destroy: () => plans.forEach(({ plan }) => plan.destroy()),
    };
  },
};

/**
 * BASS-PAD (arXiv 2404.15778, figure 4): one dispatch, every sample's keys padded to the end of the longest. Padding is
 * memory of the sample's own, read, multiplied and masked like keys; it must be finite. Layers with a window are not
 * padded: a window holds no more than its size however long a sample is.
 */
const pad: Way = {
  name: 'BASS-PAD',
  reserve: reservePadding,
  prepare: ({ device, plan, words, cache, share, samples, places }) => {
    const padded = Uint32Array.from(words);
    for (const { index, window } of cache.kinds) {
      places.forEach(({ leaf }, i) => {
        const end = window === undefined ? paddedEnd(samples) : samples[i]?.tokens.length;
        padded[recordAt(words, index, leaf) + 1] = end ?? 0;
      });
    }
    device.write(plan, padded);
    return {
      attend: (pass, { kernel, tensors, grid }) => pass.run(padding(kernel), tensors, grid),
      lists: taskLists(padded, cache, share),
      destroy: () => undefined,
    };
  },
};

/** In the order to record them: a plan made after padding was reserved would have tasks for it. */
export const ways: readonly Way[] = [ours, split, pad];

function reserveRows(samples: readonly RaggedSample[]): void {
  for (const { sequence, tokens } of samples) sequence.reserve(tokens.length - sequence.length);
}

/** Pages for padding, at the end of those the samples have: plans made before stay good. */
function reservePadding(samples: readonly RaggedSample[]): void {
  for (const { sequence } of samples) {
    const { leaf } = sequence;
    sequence.reserve(paddedEnd(samples) - sequence.length);
    if (sequence.leaf !== leaf)
      throw new Error('padded samples do not fit into one slab of KV pages: take fewer or shorter samples');
  }
}

/**
 * Changes to each of the package's kernels, as (line, replacement): keys end where the plan says, not at the row's position.
 * The kernels for GPUs mask later positions already, the thread kernel has to be told.
 */
const edits: readonly (readonly (readonly [string, string])[])[] = [
  [
    ['span.end = min(span.end, position + 1u - min(position + 1u, s.base));', ''],
    [
      'score = select(vec4f(LOWEST), score, wanted == read);',
      'score = select(vec4f(LOWEST), score, (wanted == read) & (wanted + s.base <= vec4u(position)));',
    ],
  ],
  [['span.end = min(span.end, highest + 1u - min(highest + 1u, s.base));', '']],
];

/** The kernel for BASS-PAD. Which of the package's it is, its text says: a tier has several. */
export function padding({ name, code, bindings }: Kernel): Kernel {
  const once = (line: string) => code.split(line).length === 2;
  const own = edits.filter((lines) => lines.every(([line]) => once(line)));
  invariant(
    own.length === 1,
    () => `kernel ${name} holds the lines of ${own.length} kernels that padding changes`,
  );
  const padded = own.flat().reduce((text, [line, replacement]) => text.replace(line, replacement), code);
  return { name, code: padded, bindings };
}
