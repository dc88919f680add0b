#!/usr/bin/env python3
"""Every section of bench_gpu, with small shapes, on the fake device: runs to its end, and each figure is a line that the verdict reads.

usage: bench_small.py BENCH_GPU_SMALL
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench/gpu"))
sys.dont_write_bytecode = True
import verdict  # noqa: E402

SECTIONS = ("products", "experts", "attention", "models", "rows", "fetch", "sample", "handover", "sweep", "pin")
FIGURES = {
    "linear/qkv/20", "linear/head/1", "linear-fp8/qkv/8", "experts/gate_up/1", "experts-fp8/gate_up/1", "attention/prefill/128", "digest/128",
    "attention/decode/3 x 192", "attention/chunk/64 of 256", "decode/bf16/3 x 128", "prefill/bf16/1 x 128", "decode/fp8/1 x 128",
    "rmsnorm/4 x 128", "glu/4 x 256", "sample/greedy/3 x 2048", "handover/read/64 KiB", "handover/write/64 KiB", "handover/host/64 KiB",
    "pin and unpin/1 MiB", "qkv/4 rows of 32 and 8 heads of 128", "fetch/128 of 32 KiB",
}


def run(program, folder, *arguments):
    # Where cuBLASLt is, it keeps what it has taken when it finds no GPU.
    environment = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=110, env=environment)
    assert done.returncode == 0, (arguments, done.returncode, done.stderr[-500:])
    for line in done.stdout.splitlines():
        json.loads(line)
    (folder / f"{arguments[0]}.jsonl").write_text(done.stdout)
    return done.stdout


def check(program, folder):
    run(program, folder, "exact", "1000", *SECTIONS)
    run(program, folder, "fast", "1000", "products", "attention")
    figures = verdict.Figures(folder)
    assert not FIGURES - set(figures.ours), FIGURES - set(figures.ours)
    assert {"linear/qkv/20", "attention/decode/3 x 192"} <= set(figures.fast), figures.fast
    assert figures.skipped == [] and figures.about["device"] == "NVIDIA fake"
    assert all(row["us"] > 0 for row in figures.ours.values())
    # Of both kinds of weights, one product and experts, each at two numbers of rows.
    assert len(figures.sweep) == 8 and figures.fit["points"] == 8, figures.sweep
    assert all(len(point["tiles"]) > 1 for point in figures.sweep)

    # No time: everything is said to be skipped, nothing is measured.
    said = [json.loads(line) for line in run(program, folder, "exact", "0", "products", "attention", "models", "sweep").splitlines()]
    assert {"qkv", "attention/prefill/128", "bf16"} <= {row.get("skipped") for row in said}, said
    assert not any("name" in row or "sweep" in row for row in said), said


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        check(sys.argv[1], pathlib.Path(scratch))
