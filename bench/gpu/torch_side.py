#!/usr/bin/env python3
"""The same shapes as bench_gpu by PyTorch (cuBLAS, its attention), on the same machine in the same run.

usage: torch_side.py SECONDS >RESULTS.json     stops taking on new shapes after SECONDS
"""
import json
import sys
import time

import torch
import torch.nn.functional as F

SHAPES = {"qkv": (6144, 4096), "output": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336), "head": (128256, 4096)}
ROWS = (1, 8, 16, 32, 64, 128, 256, 1024, 4096, 8192)
ROUNDS, PASS_SECONDS, CACHE_BYTES = 5, 0.05, 400 << 20


def seconds(run):
    """The median of ROUNDS times of enough calls to fill PASS_SECONDS, by the wall's clock as in bench_gpu."""
    def of(count):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for i in range(count):
            run(i)
        torch.cuda.synchronize()
        return (time.perf_counter() - begin) / count
    of(3)
    count = int(PASS_SECONDS / of(3)) + 1
    return sorted(of(count) for _ in range(ROUNDS))[ROUNDS // 2]


def products(figures, ends):
    for name, (n, k) in SHAPES.items():
        copies = min(16, CACHE_BYTES // (2 * n * k) + 1)
        weights = [torch.randn(n, k, device="cuda", dtype=torch.bfloat16) for _ in range(copies)]
        for rows in ROWS:
            if (n > 100000 and rows > 256) or time.monotonic() > ends:
                continue
            x = torch.randn(rows, k, device="cuda", dtype=torch.bfloat16)
            figures[f"linear/{name}/{rows}"] = seconds(lambda i: torch.matmul(x, weights[i % copies].T)) * 1e6


def scaled_mm(x, w):
    """(codes, scales) of both, scales for groups of 128: as DeepSeek's, where this PyTorch has that; else a scale for each row."""
    return torch._scaled_mm(x[0], w[0].T, scale_a=x[1], scale_b=w[1].T, out_dtype=torch.bfloat16)


def narrow(rows, k, block_rows, grouped):
    codes = torch.randn(rows, k, device="cuda").to(torch.float8_e4m3fn)
    if not grouped:
        return codes, torch.rand(rows, 1, device="cuda")
    scales = torch.rand((rows + block_rows - 1) // block_rows, k // 128, device="cuda")
    return codes, scales.T.contiguous().T  # columns together, as cuBLAS wants them


def grouped_works():
    try:
        scaled_mm(narrow(256, 256, 1, True), narrow(256, 256, 128, True))
        torch.cuda.synchronize()
        return True
    except (RuntimeError, ValueError):
        return False


def products_fp8(figures, ends):
    grouped = grouped_works()
    for name, (n, k) in SHAPES.items():
        if n > 100000:
            continue
        copies = min(16, CACHE_BYTES // (n * k) + 1)
        weights = [narrow(n, k, 128, grouped) for _ in range(copies)]
        for rows in ROWS:
            if time.monotonic() > ends:
                return
            x = narrow(rows, k, 1, grouped)
            try:
                figures[f"linear-fp8/{name}/{rows}"] = seconds(lambda i: scaled_mm(x, weights[i % copies])) * 1e6
            except (RuntimeError, ValueError):
                continue  # not for so few rows


def attention(figures, ends):
    heads, kv_heads, dim = 32, 8, 128
    cases = [("attention/prefill/2048", 1, 2048, 2048), ("attention/prefill/8192", 1, 8192, 8192),
             ("attention/decode/1 x 8192", 1, 8192, 1), ("attention/decode/16 x 8192", 16, 8192, 1),
             ("attention/decode/64 x 4096", 64, 4096, 1), ("attention/decode/256 x 4096", 256, 4096, 1)]
    for name, batch, length, rows in cases:
        if time.monotonic() > ends:
            return
        q = torch.randn(batch, heads, rows, dim, device="cuda", dtype=torch.bfloat16)
        k, v = (torch.randn(batch, kv_heads, length, dim, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        figures[name] = seconds(lambda i: F.scaled_dot_product_attention(q, k, v, is_causal=rows > 1, enable_gqa=True)) * 1e6


def copy_rate():
    a, b = (torch.empty(1 << 30, device="cuda", dtype=torch.uint8) for _ in range(2))
    return 2 * (1 << 30) / seconds(lambda i: b.copy_(a)) * 1e-9


def main(limit):
    ends = time.monotonic() + limit
    figures = {}
    rate = copy_rate()
    products(figures, ends)
    products_fp8(figures, ends)
    attention(figures, ends)
    json.dump({"torch": torch.__version__, "cuda": torch.version.cuda, "copy_gbytes": rate, "us": figures}, sys.stdout, indent=1)


if __name__ == "__main__":
    main(float(sys.argv[1]))
