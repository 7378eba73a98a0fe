"""A model's shape as plain data, read from and written as a Hugging Face config.json."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Layer:
    owner: int  # the layer whose K and V this one attends over; its own index where it computes them
    window: int | None  # positions seen, the own one included; None: all before it


@dataclass(frozen=True)
class Config:
    vocab: int
    hidden: int
    ffn: int
    heads: int  # a multiple of kv_heads
    kv_heads: int
    head_dim: int
    context: int
    layers: tuple[Layer, ...]
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def window(self) -> int | None:
        return next((layer.window for layer in self.layers if layer.window), None)


def layer_map(text: str, window: int) -> tuple[Layer, ...]:
    """Reads a map such as '0s 0s 2 2': for each layer the owner of its KV, and `s` for a sliding window."""
    if not re.fullmatch(r"\s*\d+s?(\s+\d+s?)*\s*", text):
        raise SystemExit(f"layer map {text!r}: expected entries such as 0 or 2s, separated by spaces")
    entries = re.findall(r"(\d+)(s?)", text)
    return checked([Layer(int(owner), window if sliding else None) for owner, sliding in entries])


def checked(layers: list[Layer]) -> tuple[Layer, ...]:
    for i, layer in enumerate(layers):
        owner = layers[min(layer.owner, i)]
        if layer.owner > i or owner.owner != layer.owner or owner.window != layer.window:
            raise SystemExit(
                f"layer {i} cannot use the KV of layer {layer.owner}: "
                "the owner must be this layer or an earlier one, own its KV and have the same window"
            )
    return tuple(layers)


def read_config(path: str | Path) -> Config:
    keys = json.loads(Path(path).read_text("utf8"))
    count = keys["num_hidden_layers"]
    kinds = keys.get("layer_types", ["full_attention"] * count)
    owners = keys.get("kv_source", range(count))
    window = keys.get("sliding_window")
    windows = [window if kind == "sliding_attention" else None for kind in kinds]
    layers = [Layer(owner, seen) for owner, seen in zip(owners, windows, strict=True)]
    return Config(
        vocab=keys["vocab_size"],
        hidden=keys["hidden_size"],
        ffn=keys["intermediate_size"],
        heads=keys["num_attention_heads"],
        kv_heads=keys["num_key_value_heads"],
        head_dim=keys["head_dim"],
        context=keys["max_position_embeddings"],
        layers=checked(layers),
        rope_theta=keys["rope_theta"],
        norm_eps=keys["rms_norm_eps"],
    )


def with_layers(config: Config, text: str | None) -> Config:
    """The same shape with another layer map."""
    return replace(config, layers=layer_map(text, config.window or 256)) if text else config


def config_json(config: Config, dtype: str) -> dict:
    plain = all(layer == Layer(i, None) for i, layer in enumerate(config.layers))
    keys = {
        "architectures": ["LlamaForCausalLM" if plain else "MixAttentionForCausalLM"],
        "model_type": "llama" if plain else "mixattention",
        "vocab_size": config.vocab,
        "hidden_size": config.hidden,
        "num_hidden_layers": len(config.layers),
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.ffn,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "max_position_embeddings": config.context,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": 0,
        "torch_dtype": dtype,
    }
    return keys if plain else keys | mixattention_keys(config)


def mixattention_keys(config: Config) -> dict:
    kinds = ["sliding_attention" if layer.window else "full_attention" for layer in config.layers]
    window = {"sliding_window": config.window} if config.window else {}
    return window | {"layer_types": kinds, "kv_source": [layer.owner for layer in config.layers]}
