"""Float32 results of a model, for another implementation to reproduce."""

import torch
from tokenizers import Tokenizer
from torch import Tensor

from attention import masked_attend
from model import Decoder

ABOUT = (
    "float32 results of the dequantised weights, from PyTorch {} with float32 matmul precision highest; "
    "last_top_*: the {} largest logits after the last prompt token; "
    "row_lse: logsumexp of the logits at every prompt position; greedy: the {} argmax tokens that follow"
)
GREEDY = 64
TOP = 16

LONG_LIST = "".join(
    f"export function item{i}(index: number): number {{\n  return index + {i};\n}}\n\n" for i in range(24)
)
PROMPTS = [
    "<|file|>math.js\nexport function add(a, b) {\n",
    "<|file|>array.ts\n/** Removes duplicate values. */\nexport function unique<T>(values: T[]): T[] {\n",
    "<|file|>prime.js\n/** Returns true when n is a prime number. */\nfunction isPrime(n) {\n",
    '<|file|>server.js\nconst express = require("express");\n',
    f"<|file|>list.ts\n{LONG_LIST}export function item24(index: number): number {{\n",  # longer than a window
]


def golden(model: Decoder, tokenizer: Tokenizer) -> dict:
    """The content of golden.json. Prompts that do not fit the context are left out."""
    torch.set_float32_matmul_precision("highest")
    encoded = [(prompt, tokenizer.encode(prompt).ids) for prompt in PROMPTS]
    fitting = [(prompt, ids) for prompt, ids in encoded if len(ids) + GREEDY <= model.config.context]
    cases = [golden_case(model, tokenizer, prompt, ids) for prompt, ids in fitting]
    return {"about": ABOUT.format(torch.__version__.split("+")[0], TOP, GREEDY), "cases": cases}


def golden_case(model: Decoder, tokenizer: Tokenizer, prompt: str, ids: list[int]) -> dict:
    logits = logits_of(model, ids)
    last = logits[-1]
    top = last.topk(TOP)
    tokens = list(ids)
    for _ in range(GREEDY):
        tokens.append(int(logits_of(model, tokens)[-1].argmax()))
    greedy = tokens[len(ids) :]
    return {
        "prompt": prompt,
        "ids": ids,
        "last_top_ids": top.indices.tolist(),
        "last_top_logits": rounded(top.values, 5),
        "logit_mean": round(last.mean().item(), 6),
        "logit_std": round(last.std().item(), 6),
        "row_lse": rounded(logits.logsumexp(-1), 5),
        "greedy": greedy,
        "greedy_text": tokenizer.decode(greedy, skip_special_tokens=False),
    }


@torch.no_grad()
def logits_of(model: Decoder, ids: list[int]) -> Tensor:
    """[length, vocab], in float32 without a cache"""
    device = next(model.parameters()).device
    return model(torch.tensor([ids], device=device), masked_attend)[0]


def rounded(values: Tensor, digits: int) -> list[float]:
    return [round(value, digits) for value in values.tolist()]
