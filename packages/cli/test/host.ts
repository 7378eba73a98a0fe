import { PassThrough, Readable } from 'node:stream';
import { run } from '../src/run.ts';

/** How a command is run in a test. */
export interface Setting {
  /** What is piped in; without it, stdin is a terminal. */
  readonly input?: string;
  /** Size of the terminal that stdout and stderr are; without it, they are pipes. */
  readonly screen?: { readonly columns: number; readonly rows: number };
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** Sees what comes on stdout as it comes. */
  readonly onOutput?: (chunk: string) => void;
}

/** What came of it. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command in this process. */
export async function ensample(args: readonly string[], setting: Setting = {}): Promise<Outcome> {
  const { input, screen, env = {}, signal = new AbortController().signal } = setting;
  const [stdout, stderr] = [output(screen, setting.onOutput), output(screen)];
  const stdin = Object.assign(Readable.from(input === undefined ? [] : [input]), {
    isTTY: input === undefined,
  });
  const code = await run(args, { stdin, stdout: stdout.stream, stderr: stderr.stream, env, signal });
  return { code, stdout: stdout.text(), stderr: stderr.text() };
}

function output(screen: Setting['screen'], onOutput?: (chunk: string) => void) {
  let text = '';
  const stream = new PassThrough().setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
    onOutput?.(chunk);
  });
  return { stream: Object.assign(stream, screen ? { isTTY: true, ...screen } : {}), text: () => text };
}
