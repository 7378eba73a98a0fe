import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { js22m } from '@ensample/model-js';
import { createEngine, type PromptedOptions } from '@ensample/runtime';
import type { Browser, Page } from 'playwright-core';
import { build, preview, type PreviewServer } from 'vite';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { launchChromium } from './chromium.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const request = {
  prompt: { text: 'export function clamp(', fileName: 'clamp.ts' },
  n: 8,
  maxTokens: 8,
  temperature: 0.8,
  topP: 0.95,
  seed: 7,
} satisfies PromptedOptions;

let outDir: string;
let server: PreviewServer;
let browser: Browser;
let address: string;

beforeAll(async () => {
  outDir = await mkdtemp(join(tmpdir(), 'ensample-demo-'));
  const common = { root, configFile: join(root, 'vite.config.ts'), logLevel: 'warn' } as const;
  await build({ ...common, build: { outDir, emptyOutDir: true } });
  server = await preview({ ...common, build: { outDir }, preview: { port: 0, host: '127.0.0.1' } });
  address = server.resolvedUrls?.local[0] ?? '';
  browser = await launchChromium();
});

afterAll(async () => {
  await browser.close();
  await server.close();
  await rm(outDir, { recursive: true, force: true });
});

/** Opens the page and gathers what goes wrong on it. */
async function open(): Promise<{ page: Page; problems: string[] }> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 1100 } });
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(message.text());
  });
  await page.goto(address);
  return { page, problems };
}

async function fill(page: Page): Promise<void> {
  await page.getByLabel('Prompt').fill(request.prompt.text);
  await page.getByLabel('File name').fill(request.prompt.fileName);
  await page.getByRole('spinbutton', { name: 'Samples' }).fill(String(request.n));
  await page.getByLabel('Max tokens').fill(String(request.maxTokens));
  await page.getByLabel('Seed').fill(String(request.seed));
}

/** The same request in Node, on the same driver: text by index. */
async function textsInNode(): Promise<string[]> {
  const engine = await createEngine({ model: js22m(), adapter: 'SwiftShader' });
  try {
    return (await engine.generate(request)).samples.map(({ text }) => text);
  } finally {
    engine.dispose();
  }
}

it('draws eight samples in Chromium: the same as Node does', async () => {
  const { page, problems } = await open();
  await fill(page);
  await page.getByRole('button', { name: 'Generate' }).click();
  await page.locator('.sample[data-finish-reason]').nth(7).waitFor({ timeout: 50_000 });

  const samples = await page.locator('.sample').evaluateAll((items) =>
    items.map((item) => ({
      index: Number((item as HTMLElement).dataset['index']),
      reason: (item as HTMLElement).dataset['finishReason'],
      text: item.querySelector('.drawn')?.textContent,
      title: item.querySelector('h3')?.textContent,
    })),
  );
  expect(samples).toHaveLength(8);
  for (const { reason } of samples) expect(['stop', 'length']).toContain(reason);
  const means = samples.map(({ title }) => Number(/-\d+\.\d+/.exec(title ?? '')?.[0]));
  expect(means).toEqual([...means].sort((a, b) => b - a));
  expect(await page.locator('#stats').textContent()).toMatch(/tokens\/s · .*KV \d/);
  expect(await page.getByRole('alert').isVisible()).toBe(false);
  expect(problems).toEqual([]);

  const byIndex = [...samples].sort((a, b) => a.index - b.index).map(({ text }) => text);
  expect(byIndex).toEqual(await textsInNode());
});

it('stops when told to, and goes on afterwards', async () => {
  const { page, problems } = await open();
  await fill(page);
  await page.getByLabel('Max tokens').fill('500');
  await page.getByRole('button', { name: 'Generate' }).click();
  await page
    .getByText(/· [1-9]\d* tokens/)
    .first()
    .waitFor({ timeout: 50_000 });
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByText('Stopped.').waitFor();
  await page.getByLabel('Max tokens').fill('1');
  await page.getByRole('button', { name: 'Generate' }).click();
  await page.locator('.sample[data-finish-reason]').nth(7).waitFor({ timeout: 50_000 });
  expect(problems).toEqual([]);
});

it('says what is missing without WebGPU', async () => {
  const page = await browser.newPage();
  await page.addInitScript(() => Object.defineProperty(navigator, 'gpu', { value: undefined }));
  await page.goto(address);
  await page.getByRole('button', { name: 'Generate' }).click();
  await page.getByRole('alert').filter({ hasText: 'WebGPU' }).waitFor();
  expect(await page.getByRole('button', { name: 'Generate' }).isEnabled()).toBe(true);
});
