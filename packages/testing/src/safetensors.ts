/** A file in memory, as weight readers take it. */
export function bytesSource(bytes: Uint8Array<ArrayBuffer>): {
  readonly size: number;
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
} {
  return {
    size: bytes.length,
    read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
  };
}

/** A safetensors file with any header, valid or not, before `data`. */
export function safetensorsFile(header: unknown, data: Uint8Array): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + text.length + data.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  file.set(data, 8 + text.length);
  return file;
}

/** One tensor to put into a file: its values are the bytes of `data`. */
export interface TestTensor {
  dtype: string;
  shape: number[];
  data: ArrayBufferView;
}

/** A valid safetensors file that holds the tensors in the order given. */
export function packTensors(tensors: Record<string, TestTensor>): Uint8Array<ArrayBuffer> {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  const total = Object.values(tensors).reduce((sum, { data }) => sum + data.byteLength, 0);
  const bytes = new Uint8Array(total);
  let offset = 0;
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset);
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  return safetensorsFile(header, bytes);
}
