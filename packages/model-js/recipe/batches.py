"""Rows of training tokens, a third of them fill-in-the-middle."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SPECIAL_TOKENS = ["<|end|>", "<|file|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
END, FILE, FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE = range(5)

FIM_SHARE = 3  # one row in so many
FIM_EDGE = 8  # tokens at least before and behind the middle


def load_tokens(path: Path, device: str) -> Tensor:
    return torch.from_numpy(np.load(path).astype(np.int32)).to(device)


def training_batches(tokens: Tensor, rows: int, length: int, seed: int = 1234) -> Iterator[Tensor]:
    """Without end: [rows, length + 1], cut from the text at random places."""
    if tokens.numel() < length + 2:
        raise SystemExit(f"{tokens.numel()} training tokens are fewer than one row of {length + 1}: add text")
    device = tokens.device
    places = torch.Generator(device).manual_seed(seed)
    spans = torch.Generator().manual_seed(seed)
    marks = torch.tensor([[FIM_PREFIX], [FIM_SUFFIX], [FIM_MIDDLE]], device=device)
    offsets = torch.arange(length + 1, device=device)
    text = length + 1 - len(marks)  # tokens of a row that has the three marks
    while True:
        starts = torch.randint(0, tokens.numel() - length - 1, (rows, 1), device=device, generator=places)
        batch = tokens[starts + offsets].long()
        for row in batch[: rows // FIM_SHARE]:
            ends = torch.randint(FIM_EDGE, text - FIM_EDGE, (2,), generator=spans)
            start, end = sorted(ends.tolist())
            row.copy_(fill_in_the_middle(row[:text].clone(), start, end, marks))
        yield batch


def fill_in_the_middle(row: Tensor, start: int, end: int, marks: Tensor) -> Tensor:
    """prefix mark, row[:start], suffix mark, row[end:], middle mark, row[start:end]"""
    prefix, suffix, middle = marks
    return torch.cat([prefix, row[:start], suffix, row[end:], middle, row[start:end]])
