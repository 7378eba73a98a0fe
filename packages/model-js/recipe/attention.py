"""Causal attention with windows, in two forms with the same result. The device decides which one trains."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from config import Config

# (q [batch, heads, length, head_dim], k and v [batch, kv_heads, length, head_dim], window) → like q
Attend = Callable[[Tensor, Tensor, Tensor, int | None], Tensor]


def training_attention(config: Config, length: int, device: str) -> Attend:
    """Flex attention skips the blocks outside a window, but trains on CUDA only."""
    return flex_attend(config, length, device) if device == "cuda" else masked_attend


def masked_attend(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """Any length, any device: computes all scores and masks them."""
    position = torch.arange(q.shape[2], device=q.device)
    distance = position[:, None] - position[None, :]
    seen = (distance >= 0) & (distance < (window or q.shape[2]))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)


def flex_attend(config: Config, length: int, device: str) -> Attend:
    """For sequences of just this length."""

    def block_mask(window: int | None):
        def seen(batch, head, q, k):
            return (q >= k) & (q - k < (window or length))

        return create_block_mask(seen, None, None, length, length, device=device)

    masks = {window: block_mask(window) for window in {layer.window for layer in config.layers}}

    def attend(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        mixed = flex_attention(q, k, v, block_mask=masks[window], enable_gqa=True)
        assert isinstance(mixed, Tensor)
        return mixed

    return attend
