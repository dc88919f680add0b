#!/usr/bin/env python3
"""What torch makes of 8-bit weights with a scale for each block of 128 x 128.

    pip install torch
    python3 make.py OUT_DIR      # fp8.json and product.json, beside this file

fp8.json: one matrix of 130 x 200 weights: every F8_E4M3 but the two that are no number, over and over; four scales. "bf16" are
the bits of weight times scale, a product in float32, as bfloat16.

product.json: inputs times such weights with both in 8 bits: a row of inputs takes a scale for each 128 of them, its greatest
magnitude / 448 in float32, and is rounded to F8_E4M3; "y" is the product of what is left of both, summed in float64. Some inputs
are of one size, some of many, some are ties of the rounding, some are 0.
"""
import json
import pathlib
import sys

import torch

ROWS, COLUMNS, BLOCK = 130, 200, 128
SCALES = [[1.0, 0.013], [3.7e-4, 2.5]]
N, K, INPUTS = 140, 300, 6
PRODUCT_SCALES = [[0.011, 0.5, 1.5], [2.0, 0.003, 0.7]]


def weights_of(rows, columns):
    codes = torch.tensor([c for c in range(256) if c & 0x7f != 0x7f], dtype=torch.uint8)
    return codes[torch.arange(rows * columns) % len(codes)].view(torch.float8_e4m3fn).reshape(rows, columns)


def spread(scales, rows, columns):
    scales = torch.tensor(scales, dtype=torch.float32)
    return scales[torch.arange(rows) // BLOCK][:, torch.arange(columns) // BLOCK]


def widened():
    product = (weights_of(ROWS, COLUMNS).float() * spread(SCALES, ROWS, COLUMNS)).to(torch.bfloat16)
    bits = product.view(torch.int16).int() & 0xffff
    picked = [0, 1, 127, 128, 129]
    return {"scales": SCALES, "rows": {str(r): bits[r].tolist() for r in picked}}


def inputs():
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(INPUTS, K, generator=generator)
    x[1] *= 10.0 ** torch.randint(-6, 4, (K,), generator=generator)
    x[2, :128] = 0
    x[3] = torch.arange(K) % 449 * 0.0625  # with a greatest of 448 / 2^n every second one of some ranges is a tie
    x[3, [127, 255, 299]] = 448.0
    x[4] *= 1e-13
    x[5, 200] = 3e4
    return x


def quantised(x):
    """In float64, what 8 bits leave of it."""
    out = torch.empty(x.shape, dtype=torch.float64)
    for first in range(0, x.shape[1], BLOCK):
        part = x[:, first:first + BLOCK]
        scale = part.abs().amax(1, keepdim=True).clamp(min=1e-10) / 448.0
        out[:, first:first + BLOCK] = (part / scale).to(torch.float8_e4m3fn).double() * scale.double()
    return out


def product():
    x = inputs()
    w = weights_of(N, K).double() * spread(PRODUCT_SCALES, N, K).double()
    size = quantised(x).abs() @ w.abs().T
    return {"n": N, "k": K, "scales": PRODUCT_SCALES, "x": x.tolist(), "y": (quantised(x) @ w.T).tolist(),
            "size": size.amax(1).tolist()}


def main():
    out = pathlib.Path(sys.argv[1])
    (out / "fp8.json").write_text(json.dumps(widened(), separators=(",", ":")) + "\n")
    (out / "product.json").write_text(json.dumps(product(), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
