import type { ModelConfig } from '@ensample/mixattn-model';
import { attentionReference } from './attention.ts';
import {
  embedReference,
  matmulReference,
  rmsNormReference,
  ropeReference,
  swigluReference,
} from './dense.ts';

type Values = Float32Array<ArrayBuffer>;

/**
 * A whole decoder of Llama blocks (Touvron et al. 2023, §2.2) with the layer map of MixAttention (arXiv 2409.15012, §3).
 * @param weights dequantised, by tensor name.
 * @returns logits of every position, `[ids, vocab]`.
 */
export function decoderReference(
  config: ModelConfig,
  weights: ReadonlyMap<string, Values>,
  ids: readonly number[],
): Values {
  const { hiddenSize, heads, kvHeads, headDim, intermediateSize, normEps, ropeTheta: theta } = config;
  const positions = ids.map((_, i) => i);
  const weight = (name: string): Values => weights.get(`${name}.weight`) ?? new Float32Array();
  const turn = (x: Values, count: number) => ropeReference(x, { heads: count, headDim, positions, theta });
  const kept: { k: Values; v: Values }[] = [];
  let x = embedReference(weight('model.embed_tokens'), hiddenSize, ids);
  config.layers.forEach(({ kvSource, window = Infinity }, i) => {
    const part = (name: string): Values => weight(`model.layers.${i}.${name}`);
    const normed = rmsNormReference(x, part('input_layernorm'), normEps);
    const project = (name: string): Values => matmulReference(normed, part(name), hiddenSize);
    const q = turn(project('self_attn.q_proj'), heads);
    if (kvSource === i)
      kept[i] = { k: turn(project('self_attn.k_proj'), kvHeads), v: project('self_attn.v_proj') };
    const { k, v } = kept[kvSource]!;
    const mixed = attentionReference({ q, k, v, headDim, positions, keyPositions: positions, window });
    x = add(x, matmulReference(mixed, part('self_attn.o_proj'), heads * headDim));
    const post = rmsNormReference(x, part('post_attention_layernorm'), normEps);
    const gateUp = matmulReference(post, join(part('mlp.gate_proj'), part('mlp.up_proj')), hiddenSize);
    x = add(
      x,
      matmulReference(swigluReference(gateUp, intermediateSize), part('mlp.down_proj'), intermediateSize),
    );
  });
  const head = weight(config.tieEmbeddings ? 'model.embed_tokens' : 'lm_head');
  return matmulReference(rmsNormReference(x, weight('model.norm'), normEps), head, hiddenSize);
}

function add(a: Values, b: Values): Values {
  return a.map((value, i) => value + (b[i] ?? NaN));
}

function join(a: Values, b: Values): Values {
  const both = new Float32Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
