import { InvalidModelError } from '@ensample/tensor';
import { jsonObject, show, type JsonObject } from './json-object.ts';

/** Random access to the bytes of one file, wherever it lies. */
export interface ByteSource {
  /** Bytes in all. */
  readonly size: number;
  /** Exactly `length` bytes from `offset`; may be a view of a buffer that others read too, so don't write to it. */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Gives back a file handle, where there is one. */
  close?(): Promise<void>;
}

/** Element types of the safetensors format. */
export type SafetensorsDType =
  | ('F64' | 'F32' | 'F16' | 'BF16' | 'F8_E4M3' | 'F8_E5M2' | 'BOOL')
  | ('I64' | 'I32' | 'I16' | 'I8' | 'U64' | 'U32' | 'U16' | 'U8');

// prettier-ignore
const DTYPE_BYTES: Record<SafetensorsDType, number> = {
  F64: 8, F32: 4, F16: 2, BF16: 2, F8_E4M3: 1, F8_E5M2: 1, BOOL: 1,
  I64: 8, I32: 4, I16: 2, I8: 1, U64: 8, U32: 4, U16: 2, U8: 1,
};

/** Where one tensor lies. */
export interface TensorInfo {
  dtype: SafetensorsDType;
  shape: number[];
  /** From the start of the file, in bytes. */
  offset: number;
  byteLength: number;
}

/** An opened safetensors file: its header is in memory and checked, its data is not. */
export interface SafetensorsFile {
  /** What error messages call it. */
  readonly name: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /**
   * The bytes of one tensor, little-endian, rows outermost.
   *
   * @throws InvalidModelError where there is no such tensor
   */
  read(name: string): Promise<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

const LENGTH_BYTES = 8;
const MAX_HEADER_BYTES = 100_000_000;

/**
 * Reads and checks the header: every tensor's dtype, shape and place, no overlap, no hole, nothing outside the file.
 *
 * @param name what error messages call the file
 * @throws InvalidModelError naming the file, the tensor and the value
 */
export async function openSafetensors(source: ByteSource, name: string): Promise<SafetensorsFile> {
  const header = await readHeader(source, name);
  const tensors = new Map<string, TensorInfo>();
  for (const key of header.json.keys()) {
    if (key !== '__metadata__') tensors.set(key, parseTensor(header.json, key, name));
  }
  checkLayout(tensors, source.size - header.end, name);
  for (const info of tensors.values()) info.offset += header.end;
  return {
    name,
    tensors,
    read: async (tensor) => {
      const info = tensors.get(tensor);
      if (!info) throw new InvalidModelError(`${name} has no tensor ${tensor}.`);
      return source.read(info.offset, info.byteLength);
    },
    close: async () => source.close?.(),
  };
}

/** Layout: u64 header length, header (JSON), data. */
async function readHeader(source: ByteSource, name: string): Promise<Header> {
  const damaged = 'the file is truncated or no safetensors file: download it again';
  if (source.size < LENGTH_BYTES) {
    throw new InvalidModelError(`${name} has ${source.size} bytes; ${damaged}.`);
  }
  const first = await source.read(0, LENGTH_BYTES);
  const length = new DataView(first.buffer, first.byteOffset).getBigUint64(0, true);
  const most = Math.min(MAX_HEADER_BYTES, source.size - LENGTH_BYTES);
  if (length < 2n || length > BigInt(most)) {
    throw new InvalidModelError(`${name}: header length is ${length}, at most ${most} fits; ${damaged}.`);
  }
  const text = new TextDecoder().decode(await source.read(LENGTH_BYTES, Number(length)));
  return { json: parseJson(text, name), end: LENGTH_BYTES + Number(length) };
}

interface Header {
  json: JsonObject;
  /** First byte of the data. */
  end: number;
}

function parseJson(text: string, name: string): JsonObject {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new InvalidModelError(
      `${name}: the header is not JSON (${show(text.slice(0, 100))}): download the file again.`,
      {
        cause,
      },
    );
  }
  return jsonObject(json, name);
}

function parseTensor(header: JsonObject, key: string, file: string): TensorInfo {
  const tensor = header.object(key) ?? header.refuse(key, 'expected a tensor');
  const dtype = tensor.string('dtype');
  if (!isDType(dtype))
    return tensor.refuse('dtype', `expected one of ${Object.keys(DTYPE_BYTES).join(', ')}`);
  const shape = tensor.array('shape') ?? [];
  if (!tensor.array('shape') || !shape.every(isCount)) tensor.refuse('shape', 'expected an array of sizes');
  const [begin, end, ...rest] = tensor.array('data_offsets') ?? [];
  if (!isCount(begin) || !isCount(end) || end < begin || rest.length > 0) {
    return tensor.refuse('data_offsets', 'expected [begin, end] in bytes');
  }
  const bytes = (shape as number[]).reduce((product, size) => product * size, DTYPE_BYTES[dtype]);
  if (bytes !== end - begin) {
    throw new InvalidModelError(
      `${file}: tensor ${key} of ${dtype} [${shape.join(', ')}] takes ${bytes} bytes, its data_offsets span ${end - begin}.`,
    );
  }
  return { dtype, shape: shape as number[], offset: begin, byteLength: bytes };
}

function isDType(text: string): text is SafetensorsDType {
  return Object.hasOwn(DTYPE_BYTES, text);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** The tensors must fill the data without overlap and without hole. */
function checkLayout(tensors: ReadonlyMap<string, TensorInfo>, dataBytes: number, file: string): void {
  const ordered = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.byteLength - b.byteLength);
  let end = 0;
  for (const [name, info] of ordered) {
    if (info.offset + info.byteLength > dataBytes) {
      throw new InvalidModelError(
        `${file}: tensor ${name} ends at byte ${info.offset + info.byteLength} of the data, which has ${dataBytes}: the file is truncated, download it again.`,
      );
    }
    if (info.offset !== end) {
      const what = info.offset < end ? 'overlaps the tensor before it' : 'leaves a hole before it';
      throw new InvalidModelError(
        `${file}: tensor ${name} begins at byte ${info.offset}, expected ${end}: it ${what}.`,
      );
    }
    end += info.byteLength;
  }
  if (end !== dataBytes) {
    throw new InvalidModelError(
      `${file}: ${dataBytes - end} bytes follow the last tensor: not a valid safetensors file.`,
    );
  }
}
