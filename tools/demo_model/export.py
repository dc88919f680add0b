"""Writes a checkpoint of train.py as a Hugging Face folder with bf16 weights.

    python export.py --name demo --checkpoint demo.pt --out models/demo
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

import tokenizer
from configs import CONFIGS, GENERATION
from model import Model

SHARDS = {"demo": 1, "demo-moe": 2}


def export(name, model, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.to(torch.bfloat16).contiguous() for key, value in model.tensors().items()}
    if SHARDS[name] == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        save_shards(tensors, folder, SHARDS[name])
    tokenizer.write_json(folder / "config.json", dict(sorted(CONFIGS[name].items())))
    tokenizer.write_json(folder / "generation_config.json", GENERATION)


def save_shards(tensors, folder, count):
    """Tensors in their order, cut into files of about equal size, with the usual index."""
    total = sum(value.nbytes for value in tensors.values())
    shards, filled = [{} for _ in range(count)], 0
    for key, value in tensors.items():
        shards[min(count - 1, filled * count // total)][key] = value
        filled += value.nbytes
    where = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{count:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        where.update({key: file for key in shard})
    tokenizer.write_json(folder / "model.safetensors.index.json",
                         {"metadata": {"total_size": total}, "weight_map": where})


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--name", choices=CONFIGS, required=True)
    options.add_argument("--checkpoint")
    options.add_argument("--out", required=True)
    given = options.parse_args()
    model = Model(CONFIGS[given.name])
    if given.checkpoint:
        model.load_state_dict(torch.load(given.checkpoint)["model"])
    export(given.name, model, given.out)


if __name__ == "__main__":
    main()
