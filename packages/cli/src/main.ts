#!/usr/bin/env node
import { run } from './run.ts';

const interrupt = new AbortController();
process.once('SIGINT', () => interrupt.abort()); // a second Ctrl-C ends the process at once
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  interrupt.abort(); // the reader of our output is gone
});

const { stdin, stdout, stderr, env } = process;
// Node ends by itself when the device is destroyed: process.exit while the GPU works can crash the driver.
process.exitCode = await run(process.argv.slice(2), { stdin, stdout, stderr, env, signal: interrupt.signal });
