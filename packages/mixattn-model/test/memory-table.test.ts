import { readFileSync } from 'node:fs';
import { kindsOf, longestDraft, pageBytes, pagesFor, roundsInFlight } from '@ensample/kv-cache';
import { expect, test } from 'vitest';
import { attentionPreset, attentionPresets } from '../src/index.ts';

// The shape that MixAttention was measured with (24 layers, window 1024, 3 key/value heads), f16.
const storage = { pageTokens: 32, draftLimit: 32, dtype: 'f16' } as const;
const lengths = [2048, 8192, 32768];

/** KV of one sequence, which grows by rounds with the longest drafts. */
function bytes(preset: (typeof attentionPresets)[number], length: number): number {
  const layout = { layers: attentionPreset(preset, { layers: 24, window: 1024 }), kvHeads: 3, headDim: 128 };
  const ahead = roundsInFlight * (longestDraft(1, 32000) + 1);
  return kindsOf(layout).reduce((sum, kind) => {
    return sum + pagesFor(kind, length, ahead, storage) * kind.owners.length * pageBytes(layout, storage);
  }, 0);
}

test('the table in docs/memory.md is what the cache takes', () => {
  const rows = attentionPresets.map((preset) => {
    const owners = new Set(
      attentionPreset(preset, { layers: 24, window: 1024 }).map((layer) => layer.kvSource),
    ).size;
    const cells = lengths.map((length) => (bytes(preset, length) / 2 ** 20).toFixed(1));
    const ratio = (bytes('standard', 32768) / bytes(preset, 32768)).toFixed(1);
    return `| ${[preset, owners, ...cells, ratio].join(' | ')} |`;
  });
  const page = readFileSync(new URL('../../../docs/memory.md', import.meta.url), 'utf8');
  expect(page.match(/^\| (?:standard|sliding-only|MA).*$/gm)).toEqual(rows);
});
