import type { StreamEvent } from '@ensample/runtime';
import cliTruncate from 'cli-truncate';
import { createLogUpdate } from 'log-update';
import type { Colors } from 'picocolors/types.js';
import type { Output } from './host.ts';
import { oneLine } from './text.ts';

const REDRAW_MS = 50;

/** Samples as they grow, a line each, redrawn in place. */
export class LiveView {
  readonly #stdout: Output;
  readonly #colors: Colors;
  readonly #log: ReturnType<typeof createLogUpdate>;
  readonly #rows: { text: string; tokens: number; done: boolean }[];
  readonly #began = performance.now();
  readonly #onResize = () => this.#draw();
  #drawn = 0;

  constructor(stdout: Output, colors: Colors, samples: number) {
    this.#stdout = stdout;
    this.#colors = colors;
    this.#log = createLogUpdate(stdout);
    this.#rows = Array.from({ length: samples }, () => ({ text: '', tokens: 0, done: false }));
    stdout.on('resize', this.#onResize);
    this.#draw();
  }

  take(event: StreamEvent): void {
    if (event.type === 'result') return;
    const row = this.#rows[event.index];
    if (row && event.type === 'token') {
      row.text += event.text;
      row.tokens++;
    } else if (row) {
      row.done = true;
    }
    if (performance.now() - this.#drawn >= REDRAW_MS) this.#draw();
  }

  /** Takes the lines away and shows the cursor again. */
  end(): void {
    this.#stdout.off('resize', this.#onResize);
    this.#log.clear();
    this.#log.done();
  }

  #draw(): void {
    this.#drawn = performance.now();
    const { columns = 80, rows = 24 } = this.#stdout;
    const shown = this.#rows.slice(0, Math.max(1, rows - 2));
    const lines = shown.map((row, index) => this.#line(row, index, columns - 1));
    this.#log([...lines, this.#summary(this.#rows.length - shown.length)].join('\n'));
  }

  #line({ text, done }: { text: string; done: boolean }, index: number, width: number): string {
    const { dim, green } = this.#colors;
    const label = `${String(index).padStart(3)} ${done ? '✓' : '·'} `;
    const tail = oneLine(text.slice(-2 * width)); // no more than can be seen: a sample may be long
    const seen = cliTruncate(tail, Math.max(1, width - label.length), { position: 'start' });
    return `${done ? green(label) : dim(label)}${seen}`;
  }

  #summary(hidden: number): string {
    const tokens = this.#rows.reduce((sum, row) => sum + row.tokens, 0);
    const running = this.#rows.filter(({ done }) => !done).length;
    const seconds = ((performance.now() - this.#began) / 1000).toFixed(1);
    const progress =
      tokens > 0 ? `${running} running · ${tokens} tokens · ${seconds} s` : 'reading the prompt';
    return this.#colors.dim(`    ${hidden > 0 ? `${hidden} more not shown · ` : ''}${progress}`);
  }
}
