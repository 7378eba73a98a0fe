"""A model is a folder: config.json, tokenizer.json, model.safetensors (f32 of a run, or int8 as shipped)."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from config import config_json, read_config
from model import Decoder

GROUP = 32  # inputs that share one scale


def save_run(folder: Path, model: Decoder, tokenizer: Path, report: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config_json(model.config, "float32"), indent=2)
    write_json(folder / "training.json", report, indent=2)
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    tensors = {name: value.float().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load_model(folder: str | Path, device: str = "cpu") -> Decoder:
    """In f32, whatever the file holds; for inference."""
    model = Decoder(read_config(Path(folder, "config.json")))
    model.load_state_dict(dequantise(load_file(Path(folder, "model.safetensors"))))
    return model.to(device).eval().requires_grad_(False)


def quantise(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices [out, in] → int8 and an f16 scale for each group of inputs [out, in / 32]; norms → f16."""
    shipped: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if value.ndim < 2:
            shipped[name] = value.half()
            continue
        groups = value.float().unflatten(1, (-1, GROUP))
        scale = (groups.abs().amax(-1) / 127).half()
        steps = groups / scale.float().clamp_min(1e-12)[..., None]
        shipped[name] = steps.round().clamp(-127, 127).to(torch.int8).flatten(1)
        shipped[f"{name}_scale"] = scale
    return shipped


def dequantise(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    values: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if value.dtype == torch.int8:
            scale = tensors[f"{name}_scale"].float()[..., None]
            values[name] = (value.float().unflatten(1, (-1, GROUP)) * scale).flatten(1)
        elif not name.endswith("_scale"):
            values[name] = value.float()
    return values


def write_json(path: Path, value: object, indent: int | None = None) -> None:
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False) + "\n", "utf8")
