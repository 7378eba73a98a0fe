import { InvalidOptionError } from '@ensample/tensor';
import { describe, expect, it } from 'vitest';
import { formatLayerMap, parseLayerMap, type LayerConfig } from '../src/layer-map.ts';
import { attentionPreset, attentionPresets, type AttentionPreset } from '../src/presets.ts';

/** MixAttention's figures 3, 5, 9 and 11: 24 layers. */
const paper: Readonly<Record<AttentionPreset, string>> = {
  standard: '0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23',
  'sliding-only': '0s 1s 2s 3s 4s 5s 6s 7s 8s 9s 10s 11s 12s 13s 14s 15s 16s 17s 18s 19s 20s 21s 22s 23s',
  MA: '0 1s 1s 3s 3s 3s 0 7s 7s 9s 9s 9s 0 13s 13s 15s 15s 15s 0 19s 19s 21s 21s 0',
  'MA-EndSlide': '0 1s 1s 3s 3s 3s 0 7s 7s 9s 9s 9s 0 13s 13s 15s 15s 15s 0 19s 19s 21s 21s 21s',
  'MA-Offset': '0s 0s 2s 2s 2s 5 6s 6s 8s 8s 8s 5 12s 12s 14s 14s 14s 5 18s 18s 20s 20s 20s 5',
  'MA-Pairs': '0 1s 1s 3s 3s 3s 0 7s 7s 9s 9s 9s 12 13s 13s 15s 15s 15s 12 19s 19s 21s 21s 21s',
  'MA-Offset-SlideShare': '0s 0s 0s 0s 0s 5 6s 6s 6s 6s 6s 5 12s 12s 12s 12s 12s 5 18s 18s 18s 18s 18s 5',
  'MA-Pairs-SlideShare': '0 1s 1s 1s 1s 1s 0 7s 7s 7s 7s 7s 12 13s 13s 13s 13s 13s 12 19s 19s 19s 19s 19s',
  'MA-Successive-1': '0 0 2s 2s 4s 4s 4s 7s 7s 9s 9s 9s 12 12 14s 14s 16s 16s 16s 19s 19s 21s 21s 21s',
  'MA-Successive-2': '0s 0s 2s 2s 2s 5 5 7s 7s 9s 9s 9s 12 12 14s 14s 16s 16s 16s 19s 19s 21s 21s 21s',
  'MA-Successive-3': '0s 0s 2s 2s 2s 5s 5s 7s 7s 7s 10 10 12s 12s 14s 14s 14s 17 17 19s 19s 21s 21s 21s',
  'MA-Successive-4': '0s 0s 2s 2s 2s 5s 5s 7s 7s 7s 10 10 12s 12s 14s 14s 14s 17s 17s 19s 19s 19s 22 22',
  'MA-NoShare-1': '0s 0s 2s 3 4s 4s 6s 6s 6s 9s 9s 11s 11s 11s 14s 14s 16s 16s 16s 19s 19s 21s 21s 21s',
  'MA-NoShare-2': '0s 0s 2s 2s 2s 5s 5s 7s 7s 7s 10 11s 11s 13s 13s 13s 16s 16s 18s 18s 18s 21s 21s 23s',
  'MA-NoShare-3': '0s 0s 2s 2s 2s 5s 5s 7s 7s 7s 10s 10s 12s 12s 12s 15s 15s 17s 17s 17s 20 21s 21s 23s',
};

/** At 12 layers; MA-EndSlide, MA-Offset and MA-Pairs are the maps that were trained for this project. */
const half: Partial<Record<AttentionPreset, string>> = {
  MA: '0 1s 1s 3s 3s 3s 0 7s 7s 9s 9s 0',
  'MA-EndSlide': '0 1s 1s 3s 3s 3s 0 7s 7s 9s 9s 9s',
  'MA-Offset': '0s 0s 2s 2s 2s 5 6s 6s 8s 8s 8s 5',
  'MA-Pairs': '0 1s 1s 0 4s 4s 6 7s 7s 6 10s 10s',
  'MA-Successive-2': '0s 0s 2 2 4s 4s 6 6 8s 8s 10s 10s',
  'MA-NoShare-2': '0s 0s 2s 2s 2s 5 6s 6s 8s 8s 8s 11s',
};

const owners = (layers: readonly LayerConfig[]) => layers.filter(({ kvSource }, i) => kvSource === i).length;
const map = (name: AttentionPreset, layers: number) =>
  formatLayerMap(attentionPreset(name, { layers, window: 256 }));

describe('attentionPreset', () => {
  it.each(Object.entries(paper))('%s is the paper’s at 24 layers', (name, expected) => {
    const layers = attentionPreset(name as AttentionPreset, { layers: 24, window: 1024 });
    expect(formatLayerMap(layers)).toBe(expected);
    expect(layers).toEqual(parseLayerMap(expected, { window: 1024 }));
  });

  it('has all presets in that table', () => {
    expect(Object.keys(paper)).toEqual(attentionPresets);
  });

  it.each([
    ['standard', 24],
    ['sliding-only', 24],
    ['MA', 9],
    ['MA-Offset', 9],
    ['MA-Pairs', 10],
    ['MA-Successive-1', 10],
    ['MA-NoShare-1', 11],
    ['MA-Pairs-SlideShare', 6],
    ['MA-Offset-SlideShare', 5],
  ] as const)('%s holds %i KV caches, as the paper’s memory results imply', (name, count) => {
    expect(owners(attentionPreset(name, { layers: 24, window: 1024 }))).toBe(count);
  });

  it.each(Object.entries(half))('%s at 12 layers', (name, expected) => {
    expect(map(name as AttentionPreset, 12)).toBe(expected);
  });

  it('MA at 13 layers is the layout that llm-foundry gives as Character.AI’s', () => {
    expect(map('MA', 13)).toBe('0 1s 1s 3s 3s 3s 0 7s 7s 9s 9s 9s 0');
  });

  it('takes every depth or names the nearest that work', () => {
    for (const name of attentionPresets) {
      for (let layers = 1; layers <= 64; layers += 1) {
        const build = () => attentionPreset(name, { layers, window: 8 });
        try {
          expect(build()).toHaveLength(layers);
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidOptionError);
          const named = /the nearest that works is (\d+)(?: or (\d+))?$/.exec((error as Error).message);
          const nearest = named?.slice(1).filter(Boolean).map(Number) ?? [];
          expect(nearest.length).toBeGreaterThan(0);
          for (const depth of nearest) {
            expect(attentionPreset(name, { layers: depth, window: 8 })).toHaveLength(depth);
          }
        }
      }
    }
  });

  it('needs no window where nothing slides', () => {
    expect(formatLayerMap(attentionPreset('standard', { layers: 3 }))).toBe('0 1 2');
  });

  it.each([
    ['MA-Pairs', { layers: 10, window: 8 }, 'does not scale to: the nearest that works is 8 or 12'],
    ['MA-Pairs', { layers: 4, window: 8 }, 'the nearest that works is 8'],
    ['MA-Successive-3', { layers: 25, window: 8 }, 'the nearest that works is 24 or 28'],
    ['MA-Offset', { layers: 5, window: 8 }, 'layers is 5, which MA-Offset does not scale to'],
    ['MA', { layers: 0, window: 8 }, 'layers is 0: it must be an integer from 1 to 1024'],
    ['MA', { layers: 12.5, window: 8 }, 'layers is 12.5: it must be an integer'],
    ['MA', { layers: 24 }, 'window is undefined: it must be an integer from 1 to 16777216'],
    ['MA', { layers: 24, window: 0 }, 'window is 0: it must be an integer from 1'],
    ['ma', { layers: 24, window: 8 }, "no preset is called 'ma': there are standard, sliding-only, MA,"],
    ['toString', { layers: 24, window: 8 }, "no preset is called 'toString'"],
  ])('refuses %s with %j', (name, options, message) => {
    const build = () => attentionPreset(name as AttentionPreset, options);
    expect(build).toThrow(InvalidOptionError);
    expect(build).toThrow(message);
  });
});
