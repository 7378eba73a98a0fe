export { parseConfig, type ModelConfig } from './config.ts';
export { Decoder, type Activations, type ForwardStep } from './decoder.ts';
export { chosenKernels, type ChosenKernels } from './kernels.ts';
export { urlFiles, type ModelFiles, type ProgressEvent, type UrlFilesOptions } from './files.ts';
export { concatRows, GROUP_SIZE, interleaveHalves, interleaveRows, type HostMatrix } from './host-matrix.ts';
export { dequantize, quantize, quantizedWeights, type QuantizedFormat } from './quantize.ts';
export { checkLayers, formatLayerMap, parseLayerMap, type LayerConfig } from './layer-map.ts';
export { layersFromReuseIndices, type ReusingLayer } from './llm-foundry.ts';
export { parseLayers } from './parse-layers.ts';
export { attentionPreset, attentionPresets, type AttentionPreset, type PresetOptions } from './presets.ts';
export { longestPrompt, mostSamples, planMemory, type MemoryOptions, type MemoryPlan } from './memory.ts';
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
