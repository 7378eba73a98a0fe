"""Judges a model on held-out tokens: loss by position and on copied spans, agreement with a target."""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from attention import masked_attend
from batches import load_tokens
from folder import load_model
from model import Decoder
from train import autocast

ROWS = 16  # in a step
MOST_ROWS = 112
BANDS = (0, 256, 1024)  # where the bands of positions begin
SPAN = 128  # tokens that are copied
SKIP = 16  # of a copied span: before it can be recognised
GAPS = (128, 512, 1024, 1536)  # tokens between the end of a span and the start of its copy
COPIES = 128  # per gap


@torch.no_grad()
def logits_of(model: Decoder, ids: Tensor) -> Tensor:
    with autocast(ids.device.type):
        return model(ids, masked_attend).float()


def held_out_rows(tokens: Tensor, length: int) -> Tensor:
    """[rows, length + 1], one after the other"""
    count = min(MOST_ROWS, (tokens.numel() - 1) // length)
    if count == 0:
        raise SystemExit(f"{tokens.numel()} held-out tokens are fewer than one row of {length + 1}: add text")
    return torch.stack([tokens[i * length : (i + 1) * length + 1] for i in range(count)]).long()


def loss_by_position(model: Decoder, rows: Tensor) -> dict[str, float]:
    losses = [
        F.cross_entropy(logits_of(model, part[:, :-1]).transpose(1, 2), part[:, 1:], reduction="none")
        for part in rows.split(ROWS)
    ]
    loss = torch.cat(losses).double().mean(0)
    starts = [a for a in BANDS if a < len(loss)]
    bands = {
        f"loss {a}…{b - 1}": loss[a:b].mean().item()
        for a, b in zip(starts, [*starts[1:], len(loss)], strict=True)
    }
    return {"loss": loss.mean().item()} | bands


def copy_loss(model: Decoder, tokens: Tensor, length: int, gap: int) -> float:
    """Mean loss on the last span of a row, which stood in it before. Row and span are random text."""
    pick = torch.Generator().manual_seed(gap)

    def pieces(size: int) -> Tensor:
        starts = torch.randint(0, tokens.numel() - size, (ROWS, 1), generator=pick)
        return tokens[(starts + torch.arange(size)).to(tokens.device)].long()

    losses = []
    for _ in range(COPIES // ROWS):
        rows, span = pieces(length), pieces(SPAN)
        first = length - SPAN - gap - SPAN
        rows[:, first : first + SPAN] = span
        rows[:, -SPAN:] = span
        logits = logits_of(model, rows)[:, -SPAN - 1 : -1]
        loss = F.cross_entropy(logits.transpose(1, 2), span, reduction="none")
        losses.append(loss[:, SKIP:].mean().item())
    return sum(losses) / len(losses)


def agreement(draft: Decoder, target: Decoder, rows: Tensor) -> dict[str, float]:
    """Expected acceptance Σ min(p, q) of the draft's guesses, and how often the likeliest tokens agree."""
    totals = torch.zeros(3, dtype=torch.float64)
    for part in rows.split(ROWS):
        q, p = logits_of(draft, part[:, :-1]), logits_of(target, part[:, :-1])
        for i, temperature in enumerate((1.0, 0.5)):
            both = torch.minimum((p / temperature).softmax(-1), (q / temperature).softmax(-1))
            totals[i] += both.sum(-1).mean().item() * len(part)
        totals[2] += (p.argmax(-1) == q.argmax(-1)).float().mean().item() * len(part)
    names = ("acceptance at temperature 1", "acceptance at temperature 0.5", "likeliest token agrees")
    return dict(zip(names, (totals / len(rows)).tolist(), strict=True))


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("folder", type=Path)
    flags.add_argument("--data", type=Path, required=True, help="folder that prepare.py made")
    flags.add_argument("--against", type=Path, help="folder of the model that this one drafts for")
    flags.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = flags.parse_args()
    model = load_model(args.folder, args.device)
    length = model.config.context
    tokens = load_tokens(args.data / "val.npy", args.device)
    rows = held_out_rows(tokens, length)
    results = {"held-out tokens": rows.shape[0] * length} | loss_by_position(model, rows)
    for gap in GAPS:
        if gap + 2 * SPAN <= length < tokens.numel():
            results[f"copy loss at {gap}"] = copy_loss(model, tokens, length, gap)
    if args.against:
        results |= agreement(model, load_model(args.against, args.device), rows)
    print(
        json.dumps({name: round(value, 4) for name, value in results.items()}, indent=2, ensure_ascii=False)
    )


if __name__ == "__main__":
    main()
