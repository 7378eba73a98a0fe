import { createEngine, type Engine, type LoadProgress, type PromptedOptions } from '@ensample/runtime';
import { js22m } from '@ensample/model-js';
import { describeRun } from './figures.ts';
import { SampleCards } from './sample-cards.ts';

const preset = `/** Limits a number to a range. */
export function clamp(`;

const form = document.querySelector<HTMLFormElement>('#form')!;
const prompt = document.querySelector<HTMLTextAreaElement>('#prompt')!;
const generateButton = document.querySelector<HTMLButtonElement>('#generate')!;
const stopButton = document.querySelector<HTMLButtonElement>('#stop')!;
const status = document.querySelector('#status')!;
const loading = document.querySelector<HTMLProgressElement>('#loading')!;
const failure = document.querySelector<HTMLElement>('#error')!;
const stats = document.querySelector('#stats')!;
const cards = new SampleCards(document.querySelector<HTMLOListElement>('#samples')!);

let engine: Promise<Engine> | undefined;
let run: AbortController | undefined;

prompt.value = preset;
stopButton.addEventListener('click', () => run?.abort());
form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (!run) void generate();
});

async function generate(): Promise<void> {
  run = new AbortController();
  const { signal } = run;
  setRunning(true);
  try {
    await draw(await (engine ??= load()), { ...readForm(), signal });
    status.textContent = 'Ranked by mean log-probability.';
  } catch (error) {
    if (signal.aborted) status.textContent = 'Stopped.';
    else showError(error);
  } finally {
    run = undefined;
    setRunning(false);
  }
}

async function draw(engine: Engine, options: PromptedOptions): Promise<void> {
  options.signal?.throwIfAborted();
  status.textContent = 'Reading the prompt…';
  cards.start(options.n ?? 1, prompt.value);
  for await (const event of engine.stream(options)) {
    if (event.type === 'result') {
      cards.rank(event.samples);
      stats.textContent = describeRun(engine.device, event.stats);
    } else {
      status.textContent = 'Sampling…';
      cards.take(event);
    }
  }
}

/** Loads the model; after a failure, or when the device is lost, the next run loads it again. */
async function load(): Promise<Engine> {
  try {
    const baseUrl = new URL('models/', document.baseURI);
    const loaded = await createEngine({ model: js22m({ baseUrl }), onProgress: showProgress });
    const { gpu } = loaded.device;
    gpu.addEventListener('uncapturederror', ({ error }) => showError(error));
    void gpu.lost.then(() => (engine = undefined));
    return loaded;
  } catch (error) {
    engine = undefined;
    throw error;
  } finally {
    loading.hidden = true;
  }
}

function showProgress(progress: LoadProgress): void {
  if (progress.status === 'ready') return;
  loading.hidden = false;
  const upload = progress.status === 'upload';
  status.textContent = upload ? 'Preparing the model…' : `Downloading ${progress.file}…`;
  loading.value = upload ? progress.layer / progress.layers : progress.progress / 100;
}

function readForm(): PromptedOptions {
  const data = new FormData(form);
  const text = (name: string): string => data.get(name) as string; // the form has no file
  const fileName = text('fileName').trim();
  return {
    prompt: { text: prompt.value, ...(fileName ? { fileName } : {}) },
    n: Number(text('n')),
    maxTokens: Number(text('maxTokens')),
    temperature: Number(text('temperature')),
    topP: Number(text('topP')),
    seed: Number(text('seed')),
    draftLength: text('drafts') === 'none' ? 0 : 'auto',
    rank: 'mean-logprob',
  };
}

function setRunning(running: boolean): void {
  generateButton.disabled = running;
  stopButton.disabled = !running;
  if (running) failure.hidden = true;
}

function showError(error: unknown): void {
  status.textContent = '';
  failure.hidden = false;
  failure.textContent = (error as { message?: string }).message ?? String(error);
}
