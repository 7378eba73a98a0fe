import { createRequire } from 'node:module';
import { EnsampleError, InvalidOptionError } from '@ensample/tensor';
import { Command, CommanderError } from 'commander';
import { addGenerate } from './generate.ts';
import type { Host } from './host.ts';
import { addInfo } from './info.ts';

const { version } = createRequire(import.meta.url)('../package.json') as { version: string };

/** Exit codes, as shells know them. */
const FAILED = 1;
const WRONG_USE = 2;
const INTERRUPTED = 130;

/**
 * Runs the command line; never throws.
 * @param args what follows the program's name
 * @returns the exit code: 0, 1 for a failure, 2 for wrong arguments, 130 after Ctrl-C.
 */
export async function run(args: readonly string[], host: Host): Promise<number> {
  try {
    await commandLine(host).parseAsync([...args], { from: 'user' });
    return 0;
  } catch (error) {
    if (host.signal.aborted) return INTERRUPTED;
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_USE; // it has printed its line
    host.stderr.write(`${describe(error, host)}\n`);
    return error instanceof InvalidOptionError ? WRONG_USE : FAILED;
  }
}

function commandLine(host: Host): Command {
  const program = new Command('ensample')
    .description('Samples many continuations of one prompt, on any WebGPU device.')
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void host.stdout.write(text),
      writeErr: (text) => void host.stderr.write(text),
      outputError: (text, write) => write(`${text.trim().replaceAll('\n', ' ')}\n`),
    });
  addGenerate(program, host);
  addInfo(program, host);
  return program;
}

/** One line for a person; with `DEBUG` in the environment, and for our own mistakes, where it came from. */
function describe(error: unknown, { env }: Host): string {
  if (!(error instanceof Error)) return `error: ${String(error)}`;
  const known = error instanceof EnsampleError;
  if (env['DEBUG']) return `error: ${error.stack ?? error.message}`;
  return `error: ${error.message}${known ? '' : ' (DEBUG=1 shows where)'}`;
}
