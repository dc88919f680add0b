#!/usr/bin/env python3
"""Tables of lossless encodings of the KV blocks of models, as published and with their weights widened to f32.

    bench/encode/table.py build/bench/encode/bench_encode MODEL_DIR... >table.md

Each model reads this project's own pages and sources.  A copy whose bf16 weights are f32 (the same numbers) computes and keeps
its KV in f32.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXTS = ["README.md", "docs/ARCHITECTURE.md", "kvstore/store.c", "docs/operate.md"]
BLOCK_TOKENS = [16, 64]  # of CPUs and of GPUs


def widened(source, target):
    """A copy of a model of bf16 weights in one file, in f32."""
    target.mkdir()
    for path in source.glob("*.json"):
        shutil.copy(path, target)
    config = json.loads((source / "config.json").read_text())
    config.update({key: "float32" for key in ("dtype", "torch_dtype") if key in config})
    (target / "config.json").write_text(json.dumps(config))
    data = (source / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    at = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        assert tensor["dtype"] == "BF16", f"{name} is {tensor['dtype']}, expected BF16"
        tensor["from"] = tensor["data_offsets"]
        size = 2 * (tensor["from"][1] - tensor["from"][0])
        tensor["dtype"], tensor["data_offsets"] = "F32", [at, at + size]
        at += size
    with open(target / "model.safetensors", "wb") as out:
        origins = [tensor.pop("from") for name, tensor in header.items() if name != "__metadata__"]
        text = json.dumps(header).encode()
        out.write(len(text).to_bytes(8, "little") + text)
        for begin, end in origins:
            wide = bytearray(2 * (end - begin))
            wide[2::4] = data[start + begin:start + end:2]
            wide[3::4] = data[start + begin + 1:start + end:2]
            out.write(wide)


def main(program, *models):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        text = folder / "text"
        text.write_text("".join((ROOT / name).read_text() for name in TEXTS))
        for model in map(pathlib.Path, models):
            wide = folder / (model.resolve().name + "-f32")
            widened(model, wide)
            for path in (model, wide):
                for tokens in BLOCK_TOKENS:
                    subprocess.run([program, path, text, str(tokens)], check=True)
            shutil.rmtree(wide)


if __name__ == "__main__":
    main(*sys.argv[1:])
