#!/usr/bin/env python3
"""What torch makes of 8-bit weights with a scale for each block of 128 x 128.

    pip install torch
    python3 make.py > fp8.json

One matrix of 130 x 200 weights: every F8_E4M3 but the two that are no number, over and over; four scales. "bf16" are the bits
of weight times scale, a product in float32, as bfloat16.
"""
import json

import torch

ROWS, COLUMNS, BLOCK = 130, 200, 128
SCALES = [[1.0, 0.013], [3.7e-4, 2.5]]


def main():
    codes = torch.tensor([c for c in range(256) if c & 0x7f != 0x7f], dtype=torch.uint8)
    weights = codes[torch.arange(ROWS * COLUMNS) % len(codes)].view(torch.float8_e4m3fn).reshape(ROWS, COLUMNS)
    scales = torch.tensor(SCALES, dtype=torch.float32)
    rows, columns = torch.arange(ROWS) // BLOCK, torch.arange(COLUMNS) // BLOCK
    product = (weights.float() * scales[rows][:, columns]).to(torch.bfloat16)
    bits = product.view(torch.int16).int() & 0xffff
    picked = [0, 1, 127, 128, 129]
    print(json.dumps({"scales": SCALES, "rows": {str(r): bits[r].tolist() for r in picked}}, separators=(",", ":")))


if __name__ == "__main__":
    main()
