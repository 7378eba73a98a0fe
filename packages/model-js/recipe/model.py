"""Llama blocks whose attention may have a window and may reuse the keys and values of an earlier layer.

Module names are those of Llama checkpoints, so that `state_dict()` has the tensor names that are shipped.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import Attend
from config import Config

KeysValues = tuple[Tensor, Tensor]  # each [batch, kv_heads, length, head_dim]; keys are already rotated


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


class Attention(nn.Module):
    def __init__(self, config: Config, index: int):
        super().__init__()
        self.index, self.layer, self.head_dim = index, config.layers[index], config.head_dim
        self.q_proj = linear(config.hidden, config.heads * config.head_dim)
        if self.layer.owner == index:
            self.k_proj = linear(config.hidden, config.kv_heads * config.head_dim)
            self.v_proj = linear(config.hidden, config.kv_heads * config.head_dim)
        self.o_proj = linear(config.heads * config.head_dim, config.hidden)

    def forward(self, x: Tensor, kv: dict[int, KeysValues], rope: Tensor, attend: Attend) -> Tensor:
        q = rotate(self.heads(self.q_proj(x)), rope)
        if self.layer.owner == self.index:
            kv[self.index] = rotate(self.heads(self.k_proj(x)), rope), self.heads(self.v_proj(x))
        k, v = kv[self.layer.owner]
        mixed = attend(q, k, v, self.layer.window)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def heads(self, x: Tensor) -> Tensor:
        """[batch, length, heads · head_dim] → [batch, heads, length, head_dim]"""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class MLP(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.gate_proj = linear(config.hidden, config.ffn)
        self.up_proj = linear(config.hidden, config.ffn)
        self.down_proj = linear(config.ffn, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config: Config, index: int):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden, eps=config.norm_eps)
        self.self_attn = Attention(config, index)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden, eps=config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, kv: dict[int, KeysValues], rope: Tensor, attend: Attend) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), kv, rope, attend)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """All but the output matrix, which is the embedding."""

    def __init__(self, config: Config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab, config.hidden)
        self.layers = nn.ModuleList(Block(config, i) for i in range(len(config.layers)))
        self.norm = nn.RMSNorm(config.hidden, eps=config.norm_eps)
        self.rope = nn.Buffer(rope_table(config), persistent=False)

    def forward(self, ids: Tensor, attend: Attend) -> Tensor:
        x = self.embed_tokens(ids)
        kv: dict[int, KeysValues] = {}
        for block in self.layers:
            x = block(x, kv, self.rope[:, : ids.shape[1]], attend)
        return self.norm(x)


class Decoder(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.model = Trunk(config)

    def forward(self, ids: Tensor, attend: Attend) -> Tensor:
        """ids [batch, length] → logits [batch, length, vocab]"""
        return F.linear(self.model(ids, attend), self.model.embed_tokens.weight)

    def matrices(self) -> list[nn.Parameter]:
        """All weight matrices but the embedding."""
        return [p for name, p in self.named_parameters() if p.ndim == 2 and "embed" not in name]


def initialise(model: Decoder) -> None:
    """Normal weights; the two projections that write into the residual stream start at half size."""
    for name, p in model.named_parameters():
        if p.ndim < 2:
            continue
        residual = name.endswith(("o_proj.weight", "down_proj.weight"))
        std = 0.02 if "embed" in name else (0.5 if residual else 1.0) / math.sqrt(p.shape[1])
        nn.init.normal_(p, std=std)


def rope_table(config: Config) -> Tensor:
    """Cosines and sines [2, context, head_dim]."""
    frequency = 1.0 / config.rope_theta ** (torch.arange(0, config.head_dim, 2).float() / config.head_dim)
    angle = torch.outer(torch.arange(config.context).float(), frequency).repeat(1, 2)
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotary embedding, rotate-half form; in bfloat16 where training computes in bfloat16."""
    cos, sin = rope.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
