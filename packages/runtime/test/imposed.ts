import type { KvCache } from '@ensample/kv-cache';

/** What a test lays down that no option of an engine does; see {@link smallPages} and {@link listedLengths}. */
export const imposed = {
  /** Tokens in a page of caches made from now on. */
  pageTokens: 32,
  /** Draft length of round k of `'auto'`: entry k mod length. */
  lengths: [0] as readonly number[],
  /** Caches made so far. */
  caches: [] as KvCache[],
};

/** In place of `@ensample/kv-cache`: `vi.mock('@ensample/kv-cache', async (real) => smallPages(await real()))`. */
export function smallPages<M extends { KvCache: typeof KvCache }>(real: M): M {
  class SmallPages extends real.KvCache {
    constructor(...[device, layout, options]: ConstructorParameters<typeof KvCache>) {
      super(device, layout, { pageTokens: imposed.pageTokens, ...options });
      imposed.caches.push(this);
    }
  }
  return { ...real, KvCache: SmallPages };
}

/** In place of `@ensample/spec-decode`, as {@link smallPages}. */
export function listedLengths<M extends object>(real: M): M {
  const autoController = () => {
    let round = 0;
    return {
      get length(): number {
        return imposed.lengths[round++ % imposed.lengths.length]!;
      },
      observe: () => undefined,
    };
  };
  return { ...real, autoController };
}
