import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import type { GenerateResult } from '@ensample/runtime';
import { describe, expect, it } from 'vitest';
import { ensample } from './host.ts';

const prompt = 'export function clamp(';
const short = ['--n', '2', '--max-tokens', '4', '--seed', '7'];
const small = fileURLToPath(new URL('../../model-js/models/js-1m-draft', import.meta.url));

const parsed = (json: string) => JSON.parse(json) as GenerateResult;

describe('ensample generate', () => {
  it('prints JSON for programs, and nothing else on stdout', async () => {
    const { code, stdout } = await ensample(['generate', prompt, ...short, '--json']);
    expect(code).toBe(0);
    const { samples, stats, ...rest } = JSON.parse(stdout);
    expect(rest).toEqual({});
    expect(samples).toHaveLength(2);
    for (const sample of samples) {
      expect(Object.keys(sample).sort()).toEqual(
        ['finishReason', 'index', 'meanLogprob', 'text', 'tokens'].sort(),
      );
      expect(sample.tokens).toHaveLength(4);
    }
    expect(samples[0].meanLogprob).toBeGreaterThanOrEqual(samples[1].meanLogprob);
    expect(stats).toMatchObject({ generatedTokens: 8, seed: 7, steps: 4 });
  });

  it('prints ranked text into a pipe, and the figures on stderr', async () => {
    const args = ['generate', prompt, ...short, '--model', small, '--draft', 'none'];
    const { code, stdout, stderr } = await ensample(args);
    expect(code).toBe(0);
    expect(
      stdout.match(/^── #\d · sample \d · mean log-probability -\d\.\d+ · length · 4 tokens ──$/gm),
    ).toHaveLength(2);
    expect(stdout.split('\n').filter((line) => line.startsWith(prompt))).toHaveLength(2);
    expect(stdout).not.toContain('\u001b');
    expect(stderr).toMatch(/^8 tokens in .*\nKV held .*\n$/);
  });

  it('takes the prompt from stdin, with - and without', async () => {
    const args = ['--model', small, '--temperature', '0', '--max-tokens', '3', '--json'];
    const given = await ensample(['generate', prompt, ...args]);
    const texts = [
      await ensample(['generate', '-', ...args], { input: prompt }),
      await ensample(['generate', ...args], { input: prompt }),
    ].map(({ stdout }) => parsed(stdout).samples[0]?.text);
    expect(texts).toEqual(Array(2).fill(parsed(given.stdout).samples[0]?.text));
  });

  it('passes every flag on', async () => {
    const bias = ['--logit-bias', '21=100', '--logit-bias', '22=-3,23=1.5'];
    const flags = [...bias, '--temperature', '0', '--logprobs', '--best-of', '3', '--stop-token-ids', '5,6'];
    const more = ['--presence-penalty', '-1', '--ignore-eos', '--kv-type', 'f32', '--tier', 'software'];
    const args = ['generate', prompt, ...short, ...flags, ...more, '--json', '--file-name', 'a.js'];
    const { code, stdout, stderr } = await ensample(args);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    const { samples } = parsed(stdout);
    expect(samples.map(({ tokens }) => tokens)).toEqual([Array(4).fill(21), Array(4).fill(21)]);
    expect(samples[0]?.logprobs).toHaveLength(4);
  });

  it('shows samples as they grow in a terminal, then the list', async () => {
    const screen = { columns: 60, rows: 20 };
    const { code, stdout } = await ensample(['generate', prompt, ...short, '--model', small], { screen });
    expect(code).toBe(0);
    expect(stdout).toContain('  0 ·');
    const list = stripVTControlCharacters(stdout.slice(stdout.lastIndexOf('running')));
    expect(list.match(/── #[12] · sample [01]/g)).toHaveLength(2);
    expect(list).toContain('tokens/s');
  });

  it('has no colour with NO_COLOR', async () => {
    const setting = { screen: { columns: 60, rows: 20 }, env: { NO_COLOR: '1' } };
    const { stdout } = await ensample(['generate', prompt, '--model', small, '--max-tokens', '2'], setting);
    expect(stdout).toContain('── #1 · sample 0');
    expect(stdout).not.toContain('\u001b[1m');
    expect(stdout).not.toContain('\u001b[2m');
  });

  it('ends with 130 when interrupted', async () => {
    const interrupt = new AbortController();
    const { code, stdout } = await ensample(['generate', prompt, '--model', small, '--max-tokens', '500'], {
      screen: { columns: 60, rows: 20 },
      signal: interrupt.signal,
      onOutput: (text) => {
        if (text.includes('running')) interrupt.abort();
      },
    });
    expect(code).toBe(130);
    expect(stdout).not.toContain('── #1');
  });
});

describe('drafts', () => {
  // The small model drafts for itself: with the rule `coupled` every guess is right.
  const itself = ['generate', prompt, '--model', small, '--draft', `sibling,prompt,${small}`];
  const run = [...itself, '--n', '2', '--max-tokens', '13', '--seed', '7', '--ignore-eos'];

  it('save rounds, and the JSON says how many', async () => {
    const { samples, stats } = parsed((await ensample([...run, '--draft-length', '2', '--json'])).stdout);
    expect(samples.map(({ tokens }) => tokens.length)).toEqual([13, 13]);
    expect(stats.steps).toBeLessThan(10);
    expect(stats.acceptedDraftTokens).toBeGreaterThan(5);
    const strategies = stats.speculation?.strategies ?? [];
    expect(strategies.map(({ name }) => name)).toEqual(['sibling-lookup', 'prompt-lookup', 'js-1m-draft']);
    expect(strategies[2]?.acceptance).toBe(1);
  });

  it('are judged as told to, and are one more line of figures', async () => {
    const flags = ['--acceptance', 'rejection', '--draft-temperature', '1.5', '--draft-length', '3'];
    const { code, stderr } = await ensample([...run, ...flags]);
    expect(stderr).toMatch(
      /^drafts of 3\.0: \d\.\d\d tokens per round · \d+ % accepted · .*js-1m-draft \d+ kept, \d+ rejected · ms per token: first \S+, last \S+, mean \S+$/m,
    );
    expect(code).toBe(0);
  });

  it('cannot be made with --draft none', async () => {
    const args = ['generate', 'x', '--model', small, '--draft', 'none', '--draft-length', '2'];
    const { code, stderr } = await ensample(args);
    expect(stderr).toMatch(/^error: draftLength is 2, and this engine has nothing to draft with: .*\n$/);
    expect(code).toBe(2);
  });
});

it('returns unfinished samples when the time budget is over', async () => {
  const flags = ['--max-tokens', '900', '--ignore-eos', '--time-budget-ms', '20'];
  const { code, stdout } = await ensample(['generate', prompt, '--model', small, ...flags]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^── #1 · sample 0 · mean log-probability \S+ · time · \d+ tokens ──$/m);
});

describe('wrong use', () => {
  it.each([
    [['generate', 'x', '--topp', '1'], "error: unknown option '--topp' (Did you mean --top-p?)\n"],
    [
      ['generate', 'x', '--n', 'two'],
      "error: option '--n <count>' argument 'two' is invalid. It must be a number.\n",
    ],
    [['generate', 'x', '--n', '0'], 'error: n is 0: it must be an integer from 1 up to 256\n'],
    [['generate', 'x', '--logit-bias', '3'], /^error: .*such as 13=-100,42=2.5\.\n$/],
    [['generate', 'x', '--tier', 'best'], /^error: .*Allowed choices are software, plain, /],
    [['generate', 'x', '--draft', 'siblings'], /^error: .*There is no folder "siblings": use auto, none, or/],
    [['generate', 'x', '--draft', 'prompt,auto'], /^error: .*auto stands alone: use auto, none, or a list/],
    [['generate', 'x', '--draft-length', 'long'], /^error: .*It must be auto, bass or a number\.\n$/],
    [['generate', 'x', '--acceptance', 'all'], /^error: .*Allowed choices are coupled, rejection\.\n$/],
    [['generate', 'x', '--time-budget-ms', '0'], /^error: timeBudgetMs is 0: it must be a number from 1 /],
    [['generate'], /^error: there is no prompt: .*\n$/],
    [['generate', 'x', '--suffix', '}', '--model', small], /^error: --file-name and --suffix .*\n$/],
    [['sample'], "error: unknown command 'sample'\n"],
  ])('%j is one line on stderr and exit code 2', async (args, line) => {
    const { code, stdout, stderr } = await ensample(args);
    expect(stderr).toMatch(line);
    expect(stderr.trimEnd()).not.toContain('\n');
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });

  it('a failure is its message and exit code 1; DEBUG adds where', async () => {
    const args = ['generate', 'x', '--model', '/no/such/model'];
    const { code, stderr } = await ensample(args);
    expect(stderr).toBe('error: There is no model folder /no/such/model: check the path.\n');
    expect(code).toBe(1);
    expect((await ensample(args, { env: { DEBUG: '1' } })).stderr).toContain('\n    at ');
  });

  it('--help is no error', async () => {
    const { code, stdout } = await ensample(['generate', '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('--max-tokens');
  });
});
