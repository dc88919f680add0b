#!/usr/bin/env python3
"""The same shapes as bench_gpu by PyTorch and what comes with it: its attention by each backend, FlashAttention where it is installed, kernels
that Triton makes (flex_attention and torch.compile), cuBLAS by its own choice.

usage: torch_side.py SECONDS SECTION... >FIGURES.jsonl     sections: attention rows products; nothing is begun after SECONDS

A line of JSON a figure, as bench_gpu's: {"name": …, "by": …, "us": …}, or "why" there is none.
"""
import contextlib
import importlib
import json
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

DEVICE = os.environ.get("TORCH_SIDE_DEVICE", "cuda")  # "cpu": to try this file out
SMALL = DEVICE == "cpu"
SHAPES = {"qkv": (6144, 4096), "output": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336), "head": (128256, 4096)}
ROWS = (256, 1, 1024, 16, 8192)
HEADS, KV_HEADS, DIM = 32, 8, 128
# (name, sequences, positions, rows of queries)
ATTENTION = (("attention/prefill/8192", 1, 8192, 8192), ("attention/decode/1 x 8192", 1, 8192, 1), ("attention/decode/16 x 8192", 16, 8192, 1),
             ("attention/decode/64 x 4096", 64, 4096, 1), ("attention/decode/256 x 4096", 256, 4096, 1), ("attention/prefill/2048", 1, 2048, 2048))
ROUNDS, PASS_SECONDS, CACHE_BYTES, COPIES_MAX = 5, 0.02, 400 << 20, 16
if SMALL:
    SHAPES, ROWS = {"qkv": (128, 256)}, (256, 1)
    ATTENTION, PASS_SECONDS, CACHE_BYTES = (("attention/prefill/128", 1, 128, 128), ("attention/decode/2 x 128", 2, 128, 1)), 0.001, 1


def write(**row):
    print(json.dumps(row), flush=True)


def wait():
    if not SMALL:
        torch.cuda.synchronize()


def seconds(run):
    """The median of ROUNDS times of enough calls to fill PASS_SECONDS, by the wall's clock as in bench_gpu."""
    def of(count):
        wait()
        begin = time.perf_counter()
        for i in range(count):
            run(i)
        wait()
        return (time.perf_counter() - begin) / count
    of(3)
    count = int(PASS_SECONDS / of(3)) + 1
    return sorted(of(count) for _ in range(ROUNDS))[ROUNDS // 2]


class Side:
    def __init__(self, limit):
        self.ends = time.monotonic() + limit

    def figure(self, name, by, make, within=contextlib.nullcontext):
        """make() gives run(i), or raises: then that is why there is no figure.  All of it runs within a context."""
        if time.monotonic() > self.ends:
            write(skipped=f"{name} by {by}")
            return
        try:
            with within():
                write(name=name, by=by, us=round(seconds(make()) * 1e6, 2))
        except Exception as error:  # whatever a library thinks of a shape: the others go on
            write(name=name, by=by, why=f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}")


def numbers(*shape, dtype=torch.bfloat16):
    return torch.randn(*shape, device=DEVICE, dtype=dtype)


def copies_of(number_bytes):
    """As many as the second-level cache has no room for."""
    return min(COPIES_MAX, CACHE_BYTES // number_bytes + 1)


# --- attention

def module(name):
    return importlib.import_module(name)


def by_sdpa(q, kv, rows):
    q = q.transpose(1, 2).contiguous()
    kv = [(k.transpose(1, 2).contiguous(), v.transpose(1, 2).contiguous()) for k, v in kv]
    return lambda i: F.scaled_dot_product_attention(q, *kv[i % len(kv)], is_causal=rows > 1, enable_gqa=True)


def by_flash_attention(name):
    def make(q, kv, rows):
        library = module(name)
        if rows > 1:
            return lambda i: library.flash_attn_func(q, *kv[i % len(kv)], causal=True)
        return lambda i: library.flash_attn_with_kvcache(q, *kv[i % len(kv)], causal=True)
    return make


def by_triton(q, kv, rows):
    """PyTorch's template of a Triton kernel, compiled for the shape: for one row it cuts the positions into parts (flex decoding)."""
    flex = module("torch.nn.attention.flex_attention")
    length = kv[0][0].shape[1]
    attend = torch.compile(flex.flex_attention, dynamic=False)
    q = q.transpose(1, 2).contiguous()
    kv = [(k.transpose(1, 2).contiguous(), v.transpose(1, 2).contiguous()) for k, v in kv]
    causal = flex.create_block_mask(lambda b, h, row, at: row >= at, None, None, rows, length, device=DEVICE) if rows > 1 else None
    return lambda i: attend(q, *kv[i % len(kv)], block_mask=causal, enable_gqa=True)


# (name, what makes it, the context that chooses it)
ATTENTION_BY = (("FlashAttention 3", by_flash_attention("flash_attn_interface"), contextlib.nullcontext),
                ("FlashAttention 2", by_flash_attention("flash_attn"), contextlib.nullcontext),
                ("SDPA, cuDNN", by_sdpa, lambda: sdpa_kernel(SDPBackend.CUDNN_ATTENTION)),
                ("SDPA, flash", by_sdpa, lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION)),
                ("Triton (flex_attention)", by_triton, contextlib.nullcontext))


def attention(side):
    cases = []
    for name, batch, length, rows in ATTENTION:
        copies = copies_of(4 * batch * length * KV_HEADS * DIM)
        kv = [tuple(numbers(batch, length, KV_HEADS, DIM) for _ in range(2)) for _ in range(copies)]
        cases.append((name, numbers(batch, rows, HEADS, DIM), kv, rows))
    for by, make, within in ATTENTION_BY:  # what is compiled first comes last
        for name, q, kv, rows in cases:
            side.figure(name, by, lambda: make(q, kv, rows), within)


# --- what memory bounds: one kernel of Triton's each

def rmsnorm(x, add, weight):
    x.add_(add)
    return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight).to(torch.bfloat16)


def glu(x):
    gate, up = x.chunk(2, -1)
    return (F.silu(gate) * up).to(torch.bfloat16)


def rows(side):
    count, hidden, inner = (8, 64, 64) if SMALL else (8192, 4096, 14336)
    x, add, weight = numbers(count, hidden, dtype=torch.float32), numbers(count, hidden, dtype=torch.float32), numbers(hidden, dtype=torch.float32)
    gate_up = numbers(count, 2 * inner, dtype=torch.float32)

    def of(function, *arguments):
        compiled = torch.compile(function, dynamic=False)
        return lambda: lambda i: compiled(*arguments)
    side.figure("rmsnorm/8192 x 4096", "Triton (torch.compile)", of(rmsnorm, x, add, weight))
    side.figure("glu/8192 x 14336", "Triton (torch.compile)", of(glu, gate_up))


# --- products by cuBLAS's own choice; its best is bench_gpu's affair

def scaled_mm(x, w):
    """(codes, scales) of both, scales for groups of 128: as DeepSeek's."""
    return torch._scaled_mm(x[0], w[0].T, scale_a=x[1], scale_b=w[1].T, out_dtype=torch.bfloat16)


def narrow(count, k, block_rows):
    scales = torch.rand((count + block_rows - 1) // block_rows, k // 128, device=DEVICE)
    return torch.randn(count, k, device=DEVICE).to(torch.float8_e4m3fn), scales.T.contiguous().T  # columns together, as cuBLAS wants them


def products(side):
    for name, (n, k) in SHAPES.items():
        weights = [numbers(n, k) for _ in range(copies_of(2 * n * k))]
        for count in ROWS:
            if n <= 100000 or count <= 256:
                x = numbers(count, k)
                side.figure(f"linear/{name}/{count}", "torch.matmul", lambda: lambda i: torch.matmul(x, weights[i % len(weights)].T))
        weights = None
    for name, (n, k) in SHAPES.items():
        if n > 100000:  # heads are not published in 8 bits
            continue
        narrow_weights = [narrow(n, k, 128) for _ in range(copies_of(n * k))] if k >= 128 else []
        for count in ROWS:
            if narrow_weights:
                x = narrow(count, k, 1)
                side.figure(f"linear-fp8/{name}/{count}", "torch._scaled_mm",
                            lambda: lambda i: scaled_mm(x, narrow_weights[i % len(narrow_weights)]))


def main(limit, *sections):
    if not SMALL and not torch.cuda.is_available():
        write(missing="PyTorch", why="it sees no GPU")
        return
    write(other="PyTorch", version=f"{torch.__version__}, CUDA {torch.version.cuda}")
    side = Side(float(limit))
    for section in sections:
        {"attention": attention, "rows": rows, "products": products}[section](side)


if __name__ == "__main__":
    main(*sys.argv[1:])
