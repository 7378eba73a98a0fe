"""Checks that this is the code of shipped models: golden results by model.py, the same bytes by folder.py."""

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from folder import dequantise, load_model, quantise
from golden import logits_of
from model import Decoder

MODELS = Path(__file__).resolve().parent.parent / "models"
TOLERANCE = 1e-3  # absolute, of a logit or a logsumexp


def check(folder: Path) -> bool:
    start = time.monotonic()
    model = load_model(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    cases = json.loads((folder / "golden.json").read_text("utf8"))["cases"]
    same_bytes = requantised_equal(folder / "model.safetensors")
    same_ids = all(tokenizer.encode(case["prompt"]).ids == case["ids"] for case in cases)
    worst = [check_case(model, case) for case in cases]
    deviation = max(logit for logit, _ in worst)
    behind = max(gap for _, gap in worst)
    print(
        f"{folder.name}: {len(cases)} cases, largest deviation {deviation:.1e}, "
        f"a greedy token at most {behind:.1e} below the likeliest, "
        f"token ids {'equal' if same_ids else 'DIFFER'}, "
        f"quantised again {'equal' if same_bytes else 'DIFFERENT'}, {time.monotonic() - start:.1f} s",
        flush=True,
    )
    return same_ids and same_bytes and deviation < TOLERANCE and behind < TOLERANCE


def check_case(model: Decoder, case: dict) -> tuple[float, float]:
    """Largest deviation of a logit or logsumexp, and of a greedy token's logit from the largest."""
    prompt = len(case["ids"])
    logits = logits_of(model, case["ids"] + case["greedy"])
    last = logits[prompt - 1]
    deviations = [
        logits[:prompt].logsumexp(-1) - torch.tensor(case["row_lse"]),
        last[case["last_top_ids"]] - torch.tensor(case["last_top_logits"]),
        last.mean()[None] - case["logit_mean"],
        last.std()[None] - case["logit_std"],
    ]
    following = logits[prompt - 1 : -1]
    chosen = following.gather(1, torch.tensor(case["greedy"])[:, None])[:, 0]
    behind = following.amax(-1) - chosen
    return torch.cat(deviations).abs().max().item(), behind.max().item()


def requantised_equal(path: Path) -> bool:
    """Whether quantising the dequantised weights gives the same names and values."""
    shipped = load_file(path)
    again = quantise(dequantise(shipped))
    return shipped.keys() == again.keys() and all(shipped[name].equal(again[name]) for name in shipped)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument(
        "folders",
        nargs="*",
        type=Path,
        default=[MODELS / "js-1m-draft", MODELS / "js-22m"],
        help="model folders",
    )
    torch.set_float32_matmul_precision("highest")
    if not all([check(folder) for folder in flags.parse_args().folders]):
        raise SystemExit(f"results differ by more than {TOLERANCE}")


if __name__ == "__main__":
    main()
