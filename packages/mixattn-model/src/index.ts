export { parseConfig, type LayerConfig, type ModelConfig } from './config.ts';
export { Decoder, type Activations, type ForwardStep } from './decoder.ts';
export { urlFiles, type ModelFiles, type ProgressEvent, type UrlFilesOptions } from './files.ts';
export { concatRows, GROUP_SIZE, type HostMatrix } from './host-matrix.ts';
export { dequantize, quantize, quantizedWeights, type QuantizedFormat } from './quantize.ts';
export {
  openSafetensors,
  type ByteSource,
  type SafetensorsDType,
  type SafetensorsFile,
  type TensorInfo,
} from './safetensors.ts';
export { createTokenizer, type TextStream, type Tokenizer } from './tokenizer.ts';
export { openWeights, type LayerWeights, type WeightReader } from './weights.ts';
export {
  modelSource,
  type DecoderSource,
  type FilesOf,
  type LoadedDecoder,
  type LoadProgress,
  type PromptFrame,
  type SourceLoadOptions,
  type TextPrompt,
} from './source.ts';
