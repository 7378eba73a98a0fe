import type { ModelConfig } from './config.ts';

/** Tensor names of Llama checkpoints, without `.weight`. */
export const EMBEDDING = 'model.embed_tokens';
export const FINAL_NORM = 'model.norm';
export const HEAD = 'lm_head';

export type LayerPart =
  'query' | 'key' | 'value' | 'output' | 'gate' | 'up' | 'down' | 'inputNorm' | 'postNorm';

const LAYER_PARTS: Record<LayerPart, string> = {
  query: 'self_attn.q_proj',
  key: 'self_attn.k_proj',
  value: 'self_attn.v_proj',
  output: 'self_attn.o_proj',
  gate: 'mlp.gate_proj',
  up: 'mlp.up_proj',
  down: 'mlp.down_proj',
  inputNorm: 'input_layernorm',
  postNorm: 'post_attention_layernorm',
};

export function layerName(layer: number, part: LayerPart): string {
  return `model.layers.${layer}.${LAYER_PARTS[part]}`;
}

/** Every tensor the model must have, and its shape: [rows, columns], or [length] for norms. */
export function expectedShapes(config: ModelConfig): Map<string, readonly number[]> {
  const { hiddenSize, intermediateSize, vocabSize, heads, kvHeads, headDim } = config;
  const shapes = new Map<string, readonly number[]>();
  shapes.set(EMBEDDING, [vocabSize, hiddenSize]);
  config.layers.forEach((layer, i) => {
    const add = (part: LayerPart, ...shape: number[]): unknown => shapes.set(layerName(i, part), shape);
    add('inputNorm', hiddenSize);
    add('query', heads * headDim, hiddenSize);
    if (layer.kvSource === i) {
      add('key', kvHeads * headDim, hiddenSize);
      add('value', kvHeads * headDim, hiddenSize);
    }
    add('output', hiddenSize, heads * headDim);
    add('postNorm', hiddenSize);
    add('gate', intermediateSize, hiddenSize);
    add('up', intermediateSize, hiddenSize);
    add('down', hiddenSize, intermediateSize);
  });
  shapes.set(FINAL_NORM, [hiddenSize]);
  if (!config.tieEmbeddings) shapes.set(HEAD, [vocabSize, hiddenSize]);
  return shapes;
}
