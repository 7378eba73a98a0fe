export {
  bassController,
  expectedTokens,
  type BassOptions,
  type DraftLengthController,
} from './draft-length.ts';
