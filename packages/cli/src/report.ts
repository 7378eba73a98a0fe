import type { GenerateResult, GenerateStats, Sample, TextPrompt } from '@ensample/runtime';
import type { Colors } from 'picocolors/types.js';
import { bytes, lastLines } from './text.ts';

/** Lines of a prompt that are shown above each continuation. */
const CONTEXT_LINES = 8;

/** The samples in the order given: what there is to say of each, then its text inside its prompt. */
export function samplesText({ samples }: GenerateResult, prompt: TextPrompt, colors: Colors): string {
  return samples.map((sample, place) => sampleText(sample, place + 1, prompt, colors)).join('\n');
}

function sampleText(sample: Sample, place: number, prompt: TextPrompt, { bold, dim }: Colors): string {
  const { index, meanLogprob, finishReason, tokens } = sample;
  const facts = [
    `sample ${index}`,
    `mean log-probability ${meanLogprob.toFixed(3)}`,
    finishReason,
    `${tokens.length} tokens`,
  ];
  const before = dim(lastLines(prompt.text, CONTEXT_LINES));
  const after = prompt.suffix === undefined ? '' : dim(prompt.suffix);
  const heading = `${bold(`── #${place}`)} ${dim(`· ${facts.join(' · ')} ──`)}`;
  return `${heading}\n${before}${sample.text}${after}`.trimEnd() + '\n';
}

/** What the run took, in two lines; a third where drafts were made. */
export function statsText(stats: GenerateStats): string {
  const { generatedTokens, decodeMs, tokensPerSecond, promptTokens, prefillMs, seed } = stats;
  const time = [
    `${generatedTokens} tokens in ${(decodeMs / 1000).toFixed(2)} s (${tokensPerSecond.toFixed(1)} tokens/s)`,
    `prefill of ${promptTokens} tokens ${prefillMs.toFixed(0)} ms`,
    `seed ${seed}`,
  ];
  const memory = [
    `KV held ${bytes(stats.kvBytes)} (unshared ${bytes(stats.kvBytesUnshared)})`,
    `read per step ${bytes(stats.kvReadBytesPerStep)} (unshared ${bytes(stats.kvReadBytesPerStepUnshared)})`,
  ];
  const lines = [time.join(' · '), memory.join(' · '), ...draftFacts(stats)];
  return lines.map((line) => `${line}\n`).join('');
}

/** What drafts gave: a line where there were any. */
function draftFacts({ speculation, msPerToken }: GenerateStats): string[] {
  if (!speculation) return [];
  const { tokensPerRound, draftLength, acceptance, strategies } = speculation;
  const { firstFinished: first, lastFinished: last, mean } = msPerToken;
  const times = Object.entries({ first, last, mean }).flatMap(([name, ms]) =>
    ms === undefined ? [] : [`${name} ${ms.toFixed(1)}`],
  );
  const facts = [
    `drafts of ${draftLength.toFixed(1)}: ${tokensPerRound.toFixed(2)} tokens per round`,
    `${(100 * acceptance).toFixed(0)} % accepted`,
    ...strategies
      .filter(({ accepted, rejected }) => accepted + rejected > 0)
      .map(({ name, accepted, rejected }) => `${name} ${accepted} kept, ${rejected} rejected`),
    `ms per token: ${times.join(', ')}`,
  ];
  return [facts.join(' · ')];
}
