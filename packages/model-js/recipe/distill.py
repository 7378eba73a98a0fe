"""Trains a draft model on the probabilities of a larger one: 0.9 × KL divergence + 0.1 × cross-entropy."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from attention import Attend, training_attention
from folder import load_model
from model import Decoder
from train import arguments, compiled, cross_entropy, train

KL_SHARE = 0.9


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean KL(teacher ‖ student) over positions, from logits [batch, length, vocab]."""
    log_q, log_p = F.log_softmax(student.float(), -1), F.log_softmax(teacher.float(), -1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1).mean()


def check_tokenizer(teacher: Path, data: Path) -> None:
    models = [
        json.loads((folder / "tokenizer.json").read_text("utf8"))["model"] for folder in (teacher, data)
    ]
    if models[0] != models[1]:
        raise SystemExit(f"{teacher} and {data} have different tokenizers: use prepare.py --tokenizer")


def main() -> None:
    flags = arguments(__doc__)
    flags.add_argument("--teacher", type=Path, required=True, help="folder of the larger model")
    args = flags.parse_args()
    check_tokenizer(args.teacher, args.data)
    teacher = load_model(args.teacher, args.device)
    if args.device == "cuda":
        teacher.bfloat16()
    teach = compiled(teacher, args.device)

    def make_loss(model: Decoder, attend: Attend) -> Callable[[Tensor], Tensor]:
        net = compiled(model, args.device)
        teacher_attend = training_attention(teacher.config, model.config.context, args.device)

        def loss(batch: Tensor) -> Tensor:
            with torch.no_grad():
                target = teach(batch[:, :-1], teacher_attend)
            logits = net(batch[:, :-1], attend)
            return KL_SHARE * divergence(logits, target) + (1 - KL_SHARE) * cross_entropy(logits, batch)

        return loss

    train(args, make_loss)


if __name__ == "__main__":
    main()
