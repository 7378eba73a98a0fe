import { InvalidModelError, type WeightFormat } from '@ensample/tensor';
import type { ModelConfig } from './config.ts';
import {
  firstNonFiniteBF16,
  firstNonFiniteF16,
  firstNonFiniteF32,
  widenBF16,
  widenF16,
} from './float-formats.ts';
import { concatRows, GROUP_SIZE, interleaveHalves, interleaveRows, type HostMatrix } from './host-matrix.ts';
import type { SafetensorsFile } from './safetensors.ts';
import { EMBEDDING, expectedShapes, FINAL_NORM, HEAD, layerName, type LayerPart } from './weight-names.ts';

/** One layer's weights, by default in host memory. */
export interface LayerWeights<M = HostMatrix> {
  /** [hidden] */
  inputNorm: Float32Array<ArrayBuffer>;
  /**
   * [(heads + 2 kvHeads) · headDim, hidden]: query, key, value; only the query rows where the layer reuses KV. What rotary
   * positions turn together are neighbours; see `interleaveHalves`.
   */
  qkv: M;
  /** [hidden, heads · headDim] */
  output: M;
  /** [hidden] */
  postNorm: Float32Array<ArrayBuffer>;
  /** [2 · intermediate, hidden]: gate and up in turns, row by row. */
  gateUp: M;
  /** [hidden, intermediate] */
  down: M;
}

/**
 * Reads a model's weights piece by piece; keeps nothing. Every read refuses NaN and infinity (InvalidModelError).
 * Matrices are in host memory by default; those made on the device are the reader's until it has handed them over.
 */
export interface WeightReader<M = HostMatrix> {
  /** [vocab, hidden] */
  embedding(): Promise<M>;
  /** @param index 0 to layers − 1 */
  layer(index: number): Promise<LayerWeights<M>>;
  /** [hidden] */
  finalNorm(): Promise<Float32Array<ArrayBuffer>>;
  /** [vocab, hidden]; `undefined` where the embedding serves as output matrix (`tieEmbeddings`). */
  head(): Promise<M | undefined>;
}

/**
 * Checks, before any data is read, that the file has just the tensors the config asks for, in shapes and dtypes that can be used.
 *
 * @throws InvalidModelError naming the tensor
 */
export function openWeights(config: ModelConfig, file: SafetensorsFile): WeightReader {
  checkTensors(config, file);
  const matrix = (layer: number, part: LayerPart): Promise<HostMatrix> =>
    readMatrix(file, layerName(layer, part));
  const turned = async (layer: number, part: LayerPart): Promise<HostMatrix> =>
    interleaveHalves(await matrix(layer, part), config.headDim);
  return {
    embedding: () => readMatrix(file, EMBEDDING),
    finalNorm: () => readNorm(file, FINAL_NORM),
    head: async () => (config.tieEmbeddings ? undefined : readMatrix(file, HEAD)),
    layer: async (i) => ({
      inputNorm: await readNorm(file, layerName(i, 'inputNorm')),
      qkv:
        config.layers[i]?.kvSource === i
          ? concatRows([await turned(i, 'query'), await turned(i, 'key'), await matrix(i, 'value')])
          : await turned(i, 'query'),
      output: await matrix(i, 'output'),
      postNorm: await readNorm(file, layerName(i, 'postNorm')),
      gateUp: interleaveRows([await matrix(i, 'gate'), await matrix(i, 'up')]),
      down: await matrix(i, 'down'),
    }),
  };
}

/** How a file's matrix will be stored on the device; `name` is without `.weight`. */
export function storedFormat(file: SafetensorsFile, name: string): WeightFormat {
  return formats[file.tensors.get(`${name}.weight`)?.dtype ?? ''] ?? 'f32';
}

const formats: Readonly<Record<string, WeightFormat>> = { I8: 'int8', U8: 'int4', F16: 'f16' };

async function readMatrix(file: SafetensorsFile, name: string): Promise<HostMatrix> {
  const weight = `${name}.weight`;
  const info = file.tensors.get(weight);
  const [rows = 0, columns = 0] = info?.shape ?? [];
  switch (storedFormat(file, name)) {
    case 'int8': {
      const scales = await readF16(file, `${name}.weight_scale`);
      return { format: 'int8', rows, columns, data: view(Int8Array, await file.read(weight)), scales };
    }
    case 'int4': {
      const scales = await readF16(file, `${name}.weight_scale`);
      return {
        format: 'int4',
        rows,
        columns: 2 * columns,
        data: view(Uint8Array, await file.read(weight)),
        scales,
      };
    }
    case 'f16':
      return { format: 'f16', rows, columns, data: await readF16(file, weight) };
    default:
      return { format: 'f32', rows, columns, data: await readF32(file, weight) };
  }
}

async function readNorm(file: SafetensorsFile, name: string): Promise<Float32Array<ArrayBuffer>> {
  return readF32(file, `${name}.weight`);
}

/** Any float dtype, as f32. */
async function readF32(file: SafetensorsFile, name: string): Promise<Float32Array<ArrayBuffer>> {
  switch (file.tensors.get(name)?.dtype) {
    case 'F16':
      return widenF16(await readF16(file, name));
    case 'BF16': {
      const bits = view(Uint16Array, await file.read(name));
      refuseNonFinite(file, name, firstNonFiniteBF16(bits));
      return widenBF16(bits);
    }
    default: {
      const values = view(Float32Array, await file.read(name));
      refuseNonFinite(file, name, firstNonFiniteF32(values));
      return values;
    }
  }
}

async function readF16(file: SafetensorsFile, name: string): Promise<Uint16Array<ArrayBuffer>> {
  const bits = view(Uint16Array, await file.read(name));
  refuseNonFinite(file, name, firstNonFiniteF16(bits));
  return bits;
}

function refuseNonFinite(file: SafetensorsFile, name: string, index: number): void {
  if (index < 0) return;
  throw new InvalidModelError(
    `${file.name}: tensor ${name} holds NaN or infinity (first at element ${index}): the weights are damaged, get the file again.`,
  );
}

interface ArrayType<T> {
  new (buffer: ArrayBuffer, byteOffset: number, length: number): T;
  readonly BYTES_PER_ELEMENT: number;
}

/** The bytes as elements; copied only where their place in the buffer is not aligned. */
function view<T>(Type: ArrayType<T>, bytes: Uint8Array<ArrayBuffer>): T {
  const aligned = bytes.byteOffset % Type.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  return new Type(aligned.buffer, aligned.byteOffset, aligned.byteLength / Type.BYTES_PER_ELEMENT);
}

function checkTensors(config: ModelConfig, file: SafetensorsFile): void {
  const known = new Set<string>();
  for (const [name, shape] of expectedShapes(config)) {
    const weight = `${name}.weight`;
    known.add(weight);
    const dtypes = ['F32', 'F16', 'BF16'];
    const packed = shape.length === 2 && file.tensors.get(weight)?.dtype === 'U8';
    if (shape.length === 2 && config.quantization) dtypes.push('I8');
    if (packed && config.quantization?.bits === 4) dtypes.push('U8');
    const [rows = 0, columns = 0] = shape;
    const dtype = checkTensor(file, weight, packed ? [rows, columns / 2] : shape, dtypes);
    if (dtype !== 'I8' && dtype !== 'U8') continue;
    known.add(`${name}.weight_scale`);
    checkTensor(file, `${name}.weight_scale`, [rows, columns / GROUP_SIZE], ['F16']);
  }
  refuseUnknown(config, file, known);
}

/** Gives the tensor's dtype. */
function checkTensor(
  file: SafetensorsFile,
  name: string,
  shape: readonly number[],
  dtypes: string[],
): string {
  const info = file.tensors.get(name);
  if (!info) {
    throw new InvalidModelError(
      `${file.name}: tensor ${name} is missing; the config asks for it with [${shape.join(', ')}].`,
    );
  }
  if (info.shape.join() !== shape.join()) {
    throw new InvalidModelError(
      `${file.name}: tensor ${name} is [${info.shape.join(', ')}], the config asks for [${shape.join(', ')}]: do both files belong to one model?`,
    );
  }
  if (!dtypes.includes(info.dtype)) {
    throw new InvalidModelError(
      `${file.name}: tensor ${name} is ${info.dtype}; supported here: ${dtypes.join(', ')}. I8 and U8 (int4) need quantization_config in config.json.`,
    );
  }
  return info.dtype;
}

function refuseUnknown(config: ModelConfig, file: SafetensorsFile, known: ReadonlySet<string>): void {
  // Old Llama checkpoints carry this table; rope_theta says the same.
  const extra = [...file.tensors.keys()].filter(
    (name) => !known.has(name) && !name.endsWith('.rotary_emb.inv_freq'),
  );
  config.layers.forEach((layer, i) => {
    const unused = extra.find((name) =>
      [layerName(i, 'key'), layerName(i, 'value')].some((part) => name.startsWith(`${part}.`)),
    );
    if (unused) {
      throw new InvalidModelError(
        `${file.name}: tensor ${unused} is not used, since layer ${i} reuses the KV of layer ${layer.kvSource}: check kv_source in config.json.`,
      );
    }
  });
  if (extra.length > 0) {
    const rest = extra.length > 5 ? ` and ${extra.length - 5} more` : '';
    throw new InvalidModelError(
      `${file.name} has tensors this architecture does not use: ${extra.slice(0, 5).join(', ')}${rest}. Choose a model with Llama blocks.`,
    );
  }
}
