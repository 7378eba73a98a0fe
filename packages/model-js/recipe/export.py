"""Makes the shipped folder of a trained model: int8 weights, configuration, tokenizer and golden results."""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from config import config_json, read_config
from folder import GROUP, load_model, quantise, write_json
from golden import golden

QUANTIZATION = {
    "quant_method": "group-int8",
    "bits": 8,
    "group_size": GROUP,
    "symmetric": True,
    "scale_dtype": "float16",
    "layout": (
        f"<name>.weight: I8 [out, in]; <name>.weight_scale: F16 [out, in/{GROUP}]; "
        "value = weight * scale; norms stay F16"
    ),
}
GENERATION = {"eos_token_id": 0, "do_sample": True, "temperature": 0.8, "top_p": 0.95}


def export(run: Path, out: Path, device: str) -> None:
    config = read_config(run / "config.json")
    out.mkdir(parents=True, exist_ok=True)
    quantisation = {"quantization_config": QUANTIZATION}
    write_json(out / "config.json", config_json(config, "float16") | quantisation, indent=2)
    write_json(out / "generation_config.json", GENERATION, indent=2)
    write_json(out / "tokenizer_config.json", tokenizer_config(config.context), indent=2)
    shutil.copyfile(run / "tokenizer.json", out / "tokenizer.json")
    tensors = quantise(load_file(run / "model.safetensors"))
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    # From the file just written, so that the results are those of the dequantised weights.
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    write_json(out / "golden.json", golden(load_model(out, device), tokenizer))


def tokenizer_config(context: int) -> dict:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "eos_token": "<|end|>",
        "pad_token": "<|end|>",
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
    }


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("run", type=Path, help="folder that train.py or distill.py made")
    flags.add_argument("out", type=Path, help="folder to ship")
    flags.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = flags.parse_args()
    export(args.run, args.out, args.device)
    for path in sorted(args.out.iterdir()):
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
