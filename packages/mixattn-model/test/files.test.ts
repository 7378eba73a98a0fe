import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InvalidModelError } from '@ensample/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { urlFiles, type ProgressEvent } from '../src/files.ts';
import { diskFiles } from '../src/node.ts';

describe('urlFiles', () => {
  const body = new Uint8Array([1, 2, 3, 4, 5, 6]);
  /** A server of one response; sends `body` in two chunks. */
  function server(headers: Record<string, string>, status = 200): typeof fetch & { urls: string[] } {
    const urls: string[] = [];
    const answer = (url: URL, init?: RequestInit): Promise<Response> => {
      if (init?.signal?.aborted) return Promise.reject(init.signal.reason as Error);
      urls.push(url.href);
      const chunks = [body.slice(0, 4), body.slice(4)];
      const stream = new ReadableStream({
        pull: (controller) => {
          const chunk = chunks.shift();
          if (chunk) controller.enqueue(chunk);
          else controller.close();
        },
      });
      const statusText = status === 404 ? 'Not Found' : 'OK';
      return Promise.resolve(new Response(stream, { headers, status, statusText }));
    };
    return Object.assign(answer as typeof fetch, { urls });
  }

  it('downloads a file whole, with progress', async () => {
    const events: ProgressEvent[] = [];
    const fetch = server({ 'content-length': '6' });
    const files = urlFiles('https://host/models/tiny', { fetch, onProgress: (event) => events.push(event) });
    const source = await files.bytes('model.safetensors');
    expect(fetch.urls).toEqual(['https://host/models/tiny/model.safetensors']);
    expect(source.size).toBe(6);
    expect([...(await source.read(2, 3))]).toEqual([3, 4, 5]);
    const common = { name: 'tiny', file: 'model.safetensors' };
    expect(events).toEqual([
      { ...common, status: 'initiate', progress: 0, loaded: 0, total: 0 },
      { ...common, status: 'progress', progress: (100 * 4) / 6, loaded: 4, total: 6 },
      { ...common, status: 'progress', progress: 100, loaded: 6, total: 6 },
      { ...common, status: 'done', progress: 100, loaded: 6, total: 6 },
    ]);
  });

  it.each([{}, { 'content-length': '3', 'content-encoding': 'gzip' }, { 'content-length': '3' }])(
    'does not depend on the size told: %o',
    async (headers) => {
      const source = await urlFiles('https://host/m/', { fetch: server(headers) }).bytes('f');
      expect([...(await source.read(0, source.size))]).toEqual([...body]);
    },
  );

  it('refuses HTTP errors, failed connections and pages in place of JSON', async () => {
    const missing = urlFiles('https://host/m', { fetch: server({}, 404) }).bytes('f.bin');
    await expect(missing).rejects.toThrow(InvalidModelError);
    await expect(missing).rejects.toThrow('https://host/m/f.bin: HTTP 404 Not Found: check the base URL.');
    const offline = urlFiles('https://host/m', {
      fetch: () => Promise.reject(new TypeError('fetch failed')),
    });
    await expect(offline.json('f')).rejects.toThrow(
      'https://host/m/f cannot be downloaded (TypeError: fetch failed)',
    );
    const page = urlFiles('https://host/m', {
      fetch: () => Promise.resolve(new Response('<!doctype html>')),
    });
    await expect(page.json('config.json')).rejects.toThrow(
      'https://host/m/config.json is not JSON, it begins with "<!doctype html>"',
    );
  });

  it('refuses what is not a URL', () => {
    expect(() => urlFiles('models/tiny')).toThrow('baseUrl is "models/tiny"; expected a URL such as');
  });

  it('rejects with the reason of its signal', async () => {
    const files = urlFiles('https://host/m', { fetch: server({}), signal: AbortSignal.abort() });
    await expect(files.bytes('f')).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('diskFiles', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ensample-'));
    await writeFile(join(folder, 'config.json'), '{"a":1}');
    await writeFile(join(folder, 'bad.json'), '{');
    await writeFile(join(folder, 'data.bin'), new Uint8Array([1, 2, 3, 4]));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('reads JSON and ranges of bytes', async () => {
    const files = diskFiles(folder);
    expect(await files.json('config.json')).toEqual({ a: 1 });
    const source = await files.bytes('data.bin');
    expect(source.size).toBe(4);
    expect([...(await source.read(1, 2))]).toEqual([2, 3]);
    await truncate(join(folder, 'data.bin'), 2);
    await expect(source.read(1, 2)).rejects.toThrow('data.bin ends at byte 2: was it changed while in use?');
    await source.close?.();
  });

  it('says what is missing', async () => {
    await expect(diskFiles(join(folder, 'none')).json('config.json')).rejects.toThrow(
      `There is no model folder ${join(folder, 'none')}: check the path.`,
    );
    const missing = diskFiles(folder).bytes('model.safetensors');
    await expect(missing).rejects.toThrow(InvalidModelError);
    await expect(missing).rejects.toThrow(
      'model.safetensors is missing: is the folder a complete Hugging Face model?',
    );
    await expect(diskFiles(folder).json('bad.json')).rejects.toThrow(
      'bad.json is not JSON, it begins with "{"',
    );
  });
});
