import type { LoadProgress } from '@ensample/runtime';
import { createLogUpdate } from 'log-update';
import type { Host } from './host.ts';

/** One line on stderr that says what is going on; nothing of it where stderr is no terminal. */
export class StatusLine {
  readonly #stderr: Host['stderr'];
  readonly #line: ReturnType<typeof createLogUpdate> | undefined;

  constructor({ stderr }: Host) {
    this.#stderr = stderr;
    this.#line = stderr.isTTY ? createLogUpdate(stderr) : undefined;
  }

  show(text: string): void {
    this.#line?.(text);
  }

  /** A line that stays. */
  notice(text: string): void {
    this.#line?.clear();
    this.#stderr.write(`${text}\n`);
  }

  /** Takes the line away and shows the cursor again. */
  end(): void {
    this.#line?.clear();
    this.#line?.done();
  }

  loading(progress: LoadProgress): void {
    if (progress.status === 'upload') {
      this.show(`Loading ${progress.name}: layer ${progress.layer} of ${progress.layers}`);
    } else if (progress.status === 'progress') {
      this.show(`Loading ${progress.name}: ${progress.file} ${progress.progress.toFixed(0)} %`);
    }
  }
}
