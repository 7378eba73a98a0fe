"""Trains a model from tokens for a given wall time: Muon for the matrices, AdamW for embedding and norms."""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from attention import Attend, training_attention
from batches import load_tokens, training_batches
from config import Config, read_config, with_layers
from folder import save_run
from model import Decoder, initialise

COMPILE_STEPS = 3  # the clock starts after these
WARM_UP = 0.02  # share of the run
DECAY = 0.5  # share of the run, at its end
LEAST = 0.02  # of the learning rate
REPORT_EVERY = 200  # steps


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Flags that train.py and distill.py share."""
    flags = argparse.ArgumentParser(description=description)
    flags.add_argument("--config", required=True, help="config.json of the model to train")
    flags.add_argument("--layers", help="another layer map, e.g. '0s 0s 2 2'")
    flags.add_argument("--data", type=Path, required=True, help="folder that prepare.py made")
    flags.add_argument("--out", type=Path, required=True, help="folder for the trained model")
    flags.add_argument("--seconds", type=float, default=340, help="wall time after compilation")
    flags.add_argument("--steps", type=int, help="train so many steps instead")
    flags.add_argument("--rows", type=int, default=64, help="rows a step, each as long as the context")
    flags.add_argument("--lr", type=float, default=2e-3)
    flags.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return flags


def train(
    args: argparse.Namespace, make_loss: Callable[[Decoder, Attend], Callable[[Tensor], Tensor]]
) -> None:
    """Trains a new model on the loss that `make_loss` gives, and saves it."""
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    config = with_layers(read_config(args.config), args.layers)
    tokens = load_tokens(args.data / "train.npy", args.device)
    check_vocabulary(config, tokens)
    model = Decoder(config).to(args.device)
    initialise(model)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {tokens.numel() / 1e6:.2f} M tokens of text", flush=True)
    loss = make_loss(model, training_attention(config, config.context, args.device))
    report = fit(model, loss, training_batches(tokens, args.rows, config.context), args)
    save_run(args.out, model, args.data / "tokenizer.json", report | {"parameters": parameters})


def fit(
    model: Decoder, loss_of: Callable[[Tensor], Tensor], batches: Iterator[Tensor], args: argparse.Namespace
) -> dict:
    """Runs the training loop. Gives what the run amounts to."""
    optimizers = make_optimizers(model, args.lr)
    loss, step, start = torch.zeros(()), -1, time.monotonic()
    for step, progress in steps_within(args.seconds, args.steps, args.device):
        for group in itertools.chain.from_iterable(o.param_groups for o in optimizers):
            group["lr"] = args.lr * learning_rate(progress)
        batch = next(batches)
        with autocast(args.device):
            loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step % REPORT_EVERY == 0:
            print(f"step {step}, {progress:.0%}: loss {loss.item():.4f}", flush=True)
    tokens = (step + 1) * args.rows * model.config.context
    report = {"steps": step + 1, "tokens": tokens, "last_loss": round(loss.item(), 4)}
    report["seconds"] = round(time.monotonic() - start, 1)
    print(report, flush=True)
    return report


def make_optimizers(model: Decoder, lr: float) -> list[torch.optim.Optimizer]:
    matrices = model.matrices()
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken]
    return [
        torch.optim.Muon(matrices, lr=lr, momentum=0.95, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.01, fused=True),
    ]


def steps_within(seconds: float, steps: int | None, device: str) -> Iterator[tuple[int, float]]:
    """Yields each step and how far the run is, from 0 to 1."""
    start = None
    for step in itertools.count():
        if step == COMPILE_STEPS:
            if device == "cuda":
                torch.cuda.synchronize()
            start = time.monotonic()
        elapsed = 0.0 if start is None else time.monotonic() - start
        progress = elapsed / seconds if steps is None else step / steps
        if progress >= 1:
            return
        yield step, progress


def learning_rate(progress: float) -> float:
    """Rises linearly, stays, and falls linearly over the second half."""
    return max(LEAST, min(1.0, progress / WARM_UP, (1 - progress) / DECAY))


def autocast(device: str) -> torch.autocast:
    """bfloat16 on CUDA, float32 elsewhere."""
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


def compiled(model: Decoder, device: str) -> Callable[[Tensor, Attend], Tensor]:
    return torch.compile(model) if device == "cuda" else model


def cross_entropy(logits: Tensor, batch: Tensor) -> Tensor:
    """Mean over all positions; `batch` has one token more than `logits` has rows."""
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def check_vocabulary(config: Config, tokens: Tensor) -> None:
    largest = int(tokens.max())
    if largest >= config.vocab:
        raise SystemExit(
            f"the text has token {largest}, the config a vocab_size of {config.vocab}: match them"
        )


def main() -> None:
    args = arguments(__doc__).parse_args()

    def make_loss(model: Decoder, attend: Attend) -> Callable[[Tensor], Tensor]:
        net = compiled(model, args.device)
        return lambda batch: cross_entropy(net(batch[:, :-1], attend), batch)

    train(args, make_loss)


if __name__ == "__main__":
    main()
