import { addAbortSignal } from 'node:stream';
import { text as readAll } from 'node:stream/consumers';
import {
  createEngine,
  type Engine,
  type GenerateOptions,
  type GenerateResult,
  type PromptedOptions,
  type StreamEvent,
  type TextPrompt,
} from '@ensample/runtime';
import { InvalidOptionError } from '@ensample/tensor';
import { Option, type Command } from 'commander';
import pico from 'picocolors';
import type { Colors } from 'picocolors/types.js';
import { addSpeculation, type DraftFlags } from './draft.ts';
import {
  addCommonFlags,
  gpuOptions,
  moreBiases,
  moreNumbers,
  number,
  oneMore,
  type DeviceFlags,
} from './flags.ts';
import type { Host, Output } from './host.ts';
import { LiveView } from './live-view.ts';
import { chooseModel } from './model.ts';
import { samplesText, statsText } from './report.ts';
import { StatusLine } from './status-line.ts';
import { printable } from './text.ts';

interface GenerateFlags extends DeviceFlags, DraftFlags, Omit<GenerateOptions, 'signal'> {
  readonly fileName?: string;
  readonly suffix?: string;
  readonly model?: string;
  readonly kvType?: 'f32' | 'f16';
  readonly weights?: 'int8' | 'int4';
  readonly memoryBytes?: number;
  readonly json?: boolean;
}

/** Adds `ensample generate`. */
export function addGenerate(program: Command, host: Host): void {
  const command = program
    .command('generate')
    .description('draw continuations of a prompt')
    .argument('[prompt]', 'text to continue; - reads it from stdin')
    .option('--file-name <name>', 'the file that the prompt is from (default: index.ts)')
    .option('--suffix <text>', 'the text after the gap that is to be filled');
  addSampling(command);
  addStopping(command);
  addSpeculation(command);
  command
    .addOption(new Option('--kv-type <type>', 'element type of the KV cache').choices(['f32', 'f16']))
    .addOption(
      new Option('--weights <format>', 'bring weights to it (default: as stored)').choices(['int8', 'int4']),
    )
    .option('--memory-bytes <count>', 'refuse a run that would take more (default: what fits)', number);
  addCommonFlags(command).action((prompt: string | undefined, flags: GenerateFlags) =>
    generate(prompt, flags, host),
  );
}

function addSampling(command: Command): void {
  command
    .option('--n <count>', 'samples (default: 1)', number)
    .option('--best-of <count>', 'samples to draw, of which the n best are shown (default: n)', number)
    .addOption(
      new Option('--rank <order>', 'order of the samples')
        .choices(['mean-logprob', 'none'])
        .default('mean-logprob'),
    )
    .option('--seed <number>', 'sample i draws with seed + i (default: random)', number)
    .option('--temperature <number>', '0 takes the likeliest token (default: 0.8)', number)
    .option('--top-k <count>', 'keep the k likeliest tokens; 0 keeps all (default: 0)', number)
    .option('--top-p <number>', 'keep the likeliest tokens up to this probability (default: 0.95)', number)
    .option('--min-p <number>', 'keep tokens this fraction as likely as the likeliest (default: 0)', number)
    .option('--repetition-penalty <number>', 'divides logits of tokens seen (default: 1)', number)
    .option('--presence-penalty <number>', 'taken from logits of tokens in the output (default: 0)', number)
    .option('--frequency-penalty <number>', 'the same for each occurrence (default: 0)', number)
    .option('--logit-bias <id=value,...>', 'added to logits of token ids; may be repeated', moreBiases)
    .option('--logprobs', "include each token's log-probability in the JSON");
}

function addStopping(command: Command): void {
  command
    .option('--max-tokens <count>', 'most tokens of a sample (default: 128)', number)
    .option('--stop <text>', 'ends a sample; may be repeated', oneMore)
    .option('--stop-token-ids <id,...>', 'token ids that end a sample; may be repeated', moreNumbers)
    .option('--ignore-eos', "go on through the model's end tokens")
    .option('--time-budget-ms <number>', 'return what there is after this time (default: no limit)', number);
}

async function generate(argument: string | undefined, flags: GenerateFlags, host: Host): Promise<void> {
  const { json, model, draft, adapter, unchecked, tier, kvType, weights, ...rest } = flags;
  const { memoryBytes, fileName, suffix, ...sampling } = rest;
  const { source, framed } = chooseModel(model);
  if (!framed && (fileName ?? suffix) !== undefined) {
    throw new InvalidOptionError('--file-name and --suffix go with the built-in model: leave out --model');
  }
  const prompt: TextPrompt = {
    text: await promptText(argument, host),
    ...(fileName === undefined ? {} : { fileName }),
    ...(suffix === undefined ? {} : { suffix }),
  };
  const status = new StatusLine(host);
  let engine: Engine | undefined;
  try {
    engine = await createEngine({
      model: source,
      ...(draft === undefined ? {} : { draft }),
      ...gpuOptions({ adapter, unchecked }),
      ...(tier === undefined ? {} : { tier }),
      ...(kvType === undefined ? {} : { kvType }),
      ...(weights === undefined ? {} : { weights }),
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
      onProgress: (progress) => status.loading(progress),
      onNotice: (line) => status.notice(line),
      signal: host.signal,
    });
    const options = { ...sampling, prompt, signal: host.signal };
    const live = isScreen(host.stdout) && json !== true;
    const result = live ? await watched(engine, options, status, host) : await quiet(engine, options, status);
    status.end();
    print(result, prompt, json === true, host);
  } finally {
    status.end();
    engine?.dispose();
  }
}

/** @throws InvalidOptionError when there is none. */
async function promptText(argument: string | undefined, { stdin, signal }: Host): Promise<string> {
  if (argument !== undefined && argument !== '-') return argument;
  if (argument === undefined && stdin.isTTY) {
    throw new InvalidOptionError('there is no prompt: give it as an argument, or - and on stdin');
  }
  return readAll(addAbortSignal(signal, stdin));
}

/** A terminal with a size: some that only record have none. */
function isScreen({ isTTY, columns = 0, rows = 0 }: Output): boolean {
  return isTTY === true && columns > 0 && rows > 0;
}

/** In a terminal: a line for each sample as it grows. */
async function watched(
  engine: Engine,
  options: PromptedOptions,
  status: StatusLine,
  { stdout, env }: Host,
): Promise<GenerateResult> {
  status.end();
  const view = new LiveView(stdout, colorsOf(env), options.bestOf ?? options.n ?? 1);
  try {
    return await lastOf(engine.stream(options), (event) => view.take(event));
  } finally {
    view.end();
  }
}

async function quiet(engine: Engine, options: PromptedOptions, status: StatusLine): Promise<GenerateResult> {
  let tokens = 0;
  return lastOf(engine.stream(options), ({ type }) => {
    if (type === 'token') status.show(`Sampling: ${++tokens} tokens`);
  });
}

async function lastOf(
  events: AsyncIterable<StreamEvent>,
  onEvent: (event: StreamEvent) => void,
): Promise<GenerateResult> {
  for await (const event of events) {
    onEvent(event);
    if (event.type === 'result') return { samples: event.samples, stats: event.stats };
  }
  throw new Error('the run ended without a result');
}

/** JSON for programs; text for people, whose figures go to stderr when the text goes into a pipe. */
function print(
  result: GenerateResult,
  prompt: TextPrompt,
  json: boolean,
  { stdout, stderr, env }: Host,
): void {
  if (json) {
    stdout.write(`${JSON.stringify(result)}\n`);
  } else if (stdout.isTTY) {
    const colors = colorsOf(env);
    stdout.write(samplesText(sanitised(result), prompt, colors));
    stdout.write(`\n${colors.dim(statsText(result.stats).trimEnd())}\n`);
  } else {
    stdout.write(samplesText(result, prompt, pico.createColors(false)));
    stderr.write(statsText(result.stats));
  }
}

function sanitised({ samples, stats }: GenerateResult): GenerateResult {
  return { samples: samples.map((sample) => ({ ...sample, text: printable(sample.text) })), stats };
}

/** Colours for a terminal, unless https://no-color.org asks for none. */
function colorsOf(env: Host['env']): Colors {
  return pico.createColors(!env['NO_COLOR'] && env['TERM'] !== 'dumb');
}
