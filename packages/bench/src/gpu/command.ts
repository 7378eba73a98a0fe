import { defineCommand, type SubCommandsDef } from 'citty';
import { InvalidOptionError, isSoftware, type Device } from '@ensample/tensor';
import { deviceArgs, openDevice } from '../device-args.ts';
import type { DrawnFormat } from '../synthetic.ts';
import { bandwidthOf } from './bandwidth.ts';
import { Models, runJobs, type Bench, type GpuOptions, type Section } from './bench.ts';
import { decodeJobs } from './decode.ts';
import { hostJobs } from './host.ts';
import { mixAttentionJobs } from './mixattention.ts';
import { prefillJobs } from './prefill.ts';
import { productJobs } from './products.ts';
import { Report } from './report.ts';
import { samplingJobs } from './sampling.ts';
import { speculationJobs } from './speculation.ts';
import { stagingJobs } from './staging.ts';
import { attentionTilesJobs } from './tune/attention-tiles.ts';
import { attentionTuning } from './tune/attention.ts';
import { productTuning } from './tune/products.ts';

/** The parts of the benchmark, by the name that `--only` takes. */
export const sections: Readonly<Record<string, Section>> = {
  decode: decodeJobs,
  matmul: productJobs,
  prefill: prefillJobs,
  host: hostJobs,
  sampling: samplingJobs,
  speculation: speculationJobs,
  mixattention: mixAttentionJobs,
};

/** What is run only where `--only` names it: it tells how kernels could be faster, not how fast they are. */
export const studies: Readonly<Record<string, Section>> = {
  staging: stagingJobs,
  'tune-attention': attentionTuning,
  'attention-tiles': attentionTilesJobs,
  'tune-matmul': productTuning,
};

const formats: Readonly<Record<string, DrawnFormat>> = { f16: 'f16', int8: 'int8', int4: 'int4' };

function oneOf<T>(flag: string, name: string, known: Readonly<Record<string, T>>): T {
  const found = known[name];
  if (found !== undefined) return found;
  throw new InvalidOptionError(`${flag} is "${name}": it must be one of ${Object.keys(known).join(', ')}`);
}

const { adapter, tier, device, results } = deviceArgs;

/** `bench gpu` */
export const gpu: SubCommandsDef[string] = defineCommand({
  meta: {
    name: 'gpu',
    description: 'How fast kernels and steps are on a GPU: full-size shapes, weights and KV drawn at random',
  },
  args: {
    ...{ adapter, tier, device, results },
    only: {
      type: 'string',
      description: `sections to run; also ${Object.keys(studies).join(', ')}`,
      default: Object.keys(sections).join(),
    },
    shapes: { type: 'string', description: '7b, 8b-gqa, 300m, tiny', default: '7b,8b-gqa' },
    weights: { type: 'string', description: 'f16, int8, int4', default: 'f16,int8,int4' },
    contexts: { type: 'string', description: 'tokens of the prompt', default: '8192,1024,16384,32768' },
    n: { type: 'string', description: "samples, and rows of products (default: each section's own)" },
    layers: { type: 'string', description: 'layers of a shape', default: '32' },
    products: {
      type: 'string',
      description: 'outputs x columns of the section matmul',
      default: '12288x4096,22016x4096,4096x11008,4096x4096,32000x4096',
    },
    prefill: { type: 'string', description: 'prompt lengths of the section prefill', default: '2048,8192' },
    vocab: { type: 'string', description: 'vocabulary of the section sampling', default: '128000' },
    memory: { type: 'string', description: 'bytes that the section mixattention fills (default: 76e9)' },
    repeats: { type: 'string', description: 'timed repeats; the median counts', default: '5' },
    unchecked: { type: 'boolean', description: 'shaders do not check bounds (Node only)', default: false },
  },
  async run({ args }) {
    const chosen = args.only.split(',').map((name) => oneOf('--only', name, { ...sections, ...studies }));
    const options = optionsOf(args);
    const device = await openDevice(args);
    try {
      const where = { results: args.results, name: args.device, robustness: !args.unchecked };
      const report = await Report.open(device, where);
      const bench = await openBench(device, report, options);
      await runJobs(bench, chosen);
      console.log(`written: ${report.path} (${report.rows.length} rows, ${report.skipped.length} skipped)`);
    } finally {
      device.destroy();
    }
  },
});

/** Gets everything ready that jobs need. */
export async function openBench(
  device: Device,
  report: Report,
  options: Omit<GpuOptions, 'least'>,
): Promise<Bench> {
  const software = isSoftware(device.info);
  // A driver on the CPU need not be kept busy: its submissions are long as they are.
  const all: GpuOptions = { ...options, least: software ? 0 : 30 };
  const measure = { bytes: software ? 2 ** 24 : 2 ** 30, repeats: options.repeats };
  const { tbps, measured } = await bandwidthOf(device, report.device, measure);
  if (measured) await report.add({ section: 'bandwidth', tbps });
  return { device, options: all, report, models: new Models(device, all), bandwidth: 1e9 * tbps };
}

type OptionArgs = Readonly<
  Record<'shapes' | 'weights' | 'contexts' | 'layers' | 'products' | 'prefill' | 'vocab' | 'repeats', string>
> & { readonly n?: string | undefined; readonly memory?: string | undefined };

function optionsOf(args: OptionArgs): Omit<GpuOptions, 'least'> {
  const list = (text: string) => text.split(',').filter(Boolean);
  const numbers = (text: string) => list(text).map(Number);
  return {
    shapes: list(args.shapes),
    weights: list(args.weights).map((name) => oneOf('--weights', name, formats)),
    contexts: numbers(args.contexts),
    n: args.n === undefined ? undefined : numbers(args.n),
    layers: Number(args.layers),
    products: list(args.products).map((text) => {
      const [outputs = NaN, columns = NaN] = text.split('x').map(Number);
      return [outputs, columns] as const;
    }),
    prefill: numbers(args.prefill),
    vocab: Number(args.vocab),
    memory: args.memory === undefined ? undefined : Number(args.memory),
    repeats: Number(args.repeats),
  };
}
