// What benchmarks check a model with; the package's index also brings the test runner.
export { expectClose, tolerance, type Tolerance } from './compare.ts';
export { decoderReference } from './references/decoder.ts';
export { tinyFiles, tinyModel, type TinyModel, type TinyModelOptions } from './tiny-model.ts';
