import { InvalidModelError, InvalidOptionError } from '@ensample/tensor';
import type { ByteSource } from './safetensors.ts';

/** The files of one model, wherever they lie. */
export interface ModelFiles {
  /** What messages call the model, e.g. its folder's name. */
  readonly name: string;
  /** @throws InvalidModelError where the file is missing, cannot be had or is not JSON */
  json(file: string): Promise<unknown>;
  /** @throws InvalidModelError where the file is missing or cannot be had */
  bytes(file: string): Promise<ByteSource>;
}

/** How far one file's download is; the form of transformers.js. */
export interface ProgressEvent {
  status: 'initiate' | 'progress' | 'done';
  /** The model. */
  name: string;
  file: string;
  /** Percent, 0–100; 0 until the end where the server does not tell the size. */
  progress: number;
  /** Bytes that arrived. */
  loaded: number;
  /** Bytes in all; 0 where the server does not tell. */
  total: number;
}

export interface UrlFilesOptions {
  /** Default: the platform's `fetch`. */
  fetch?: typeof globalThis.fetch;
  /** Ends downloads; they reject with its reason (an `AbortError` by default). */
  signal?: AbortSignal;
  onProgress?: (event: ProgressEvent) => void;
}

/**
 * A model's files below a URL; each is downloaded whole when it is asked for.
 *
 * @param baseUrl the folder; in browsers it may be relative to the page
 * @throws InvalidOptionError where it is not a URL
 */
export function urlFiles(baseUrl: string | URL, options: UrlFilesOptions = {}): ModelFiles {
  const base = folderUrl(baseUrl);
  const name = base.pathname.split('/').at(-2) || base.host;
  return {
    name,
    json: async (file) => {
      const url = new URL(file, base);
      return parseJson(new TextDecoder().decode(await download(url, name, file, options)), url.href);
    },
    bytes: async (file) => memorySource(await download(new URL(file, base), name, file, options)),
  };
}

function folderUrl(baseUrl: string | URL): URL {
  try {
    const url = new URL(baseUrl, (globalThis as { location?: Location }).location?.href);
    if (!url.pathname.endsWith('/')) url.pathname += '/';
    return url;
  } catch (cause) {
    throw new InvalidOptionError(
      `baseUrl is ${JSON.stringify(baseUrl)}; expected a URL such as https://host/model/.`,
      { cause },
    );
  }
}

/**
 * @param where what error messages call the text
 * @throws InvalidModelError where it is not JSON
 */
export function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const start = JSON.stringify(text.slice(0, 40));
    throw new InvalidModelError(`${where} is not JSON, it begins with ${start}: is it the right file?`, {
      cause,
    });
  }
}

function memorySource(bytes: Uint8Array<ArrayBuffer>): ByteSource {
  return {
    size: bytes.length,
    read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
  };
}

async function download(
  url: URL,
  name: string,
  file: string,
  options: UrlFilesOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  const report = (status: ProgressEvent['status'], loaded: number, total: number): void =>
    options.onProgress?.({
      status,
      name,
      file,
      loaded,
      total,
      progress: total > 0 ? (100 * loaded) / total : 0,
    });
  report('initiate', 0, 0);
  try {
    const response = await (options.fetch ?? fetch)(url, { signal: options.signal ?? null });
    if (!response.ok) {
      throw new InvalidModelError(
        `${url.href}: HTTP ${response.status} ${response.statusText}: check the base URL.`,
      );
    }
    const bytes = await readBody(response, (loaded, total) => report('progress', loaded, total));
    report('done', bytes.length, bytes.length);
    return bytes;
  } catch (error) {
    if (error instanceof InvalidModelError || options.signal?.aborted) throw error;
    throw new InvalidModelError(
      `${url.href} cannot be downloaded (${String(error)}): check the URL and the network.`,
      {
        cause: error,
      },
    );
  }
}

/** Into one buffer of the size the server tells, so that a large file is in memory once. */
async function readBody(
  response: Response,
  onChunk: (loaded: number, total: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  // Content-Length counts compressed bytes where there is a Content-Encoding.
  const encoded = response.headers.has('content-encoding');
  const total = encoded ? 0 : Number(response.headers.get('content-length') ?? 0);
  let bytes = new Uint8Array(total);
  let loaded = 0;
  const reader = response.body?.getReader();
  for (let chunk = await reader?.read(); chunk && !chunk.done; chunk = await reader?.read()) {
    const end = loaded + chunk.value.length;
    if (end > bytes.length) {
      const larger = new Uint8Array(Math.max(end, 2 * bytes.length));
      larger.set(bytes.subarray(0, loaded));
      bytes = larger;
    }
    bytes.set(chunk.value, loaded);
    loaded = end;
    onChunk(loaded, Math.max(total, total && loaded));
  }
  return bytes.subarray(0, loaded);
}
