#!/usr/bin/env python3
"""Puts bench_gpu's figures beside PyTorch's and the targets; one JSON file, a table, a verdict.

usage: verdict.py EXACT.json FAST.json TORCH.json|- MACHINE RESULTS.json

Targets are those of the exact class; the class "fast" stands beside it where it was measured.
"""
import json
import sys

DENSE_TFLOPS = 989  # bf16, H100 and H200 SXM, data sheet; twice that for e4m3


def target(name, ours, torch_us):
    """(what is measured, its value, what is asked), or None: no target."""
    kind, *rest = name.split("/")
    products = kind in ("linear", "linear-fp8")
    dense = DENSE_TFLOPS * (2 if "fp8" in name else 1)
    if products and int(rest[-1]) >= 256 and torch_us:
        return "of cuBLAS", torch_us / ours["us"], 0.9
    if products and int(rest[-1]) <= 16:
        return "of copy", ours["of_copy"], 0.85
    if name == "attention/prefill/8192":
        return "of dense", ours["tflops"] / DENSE_TFLOPS, 0.7
    if name.startswith("attention/decode"):
        return "of copy", ours["of_copy"], 0.85
    if kind == "decode":
        return "of roofline", max(ours["of_copy"], ours["tflops"] / dense), 0.75
    return None


def main(ours_path, fast_path, torch_path, machine, results_path):
    with open(ours_path) as file:
        ours = json.load(file)
    with open(fast_path) as file:
        fast = {figure["name"]: figure["us"] for figure in json.load(file)["figures"]}
    theirs = {"us": {}}
    if torch_path != "-":
        with open(torch_path) as file:
            theirs = json.load(file)
    met = missed = 0
    for figure in ours["figures"]:
        torch_us = theirs["us"].get(figure["name"])
        if torch_us:
            figure["torch_us"] = round(torch_us, 2)
        aim = target(figure["name"], figure, torch_us)
        fast_us = fast.get(figure["name"])
        line = f'{figure["name"]:<40}{figure["us"]:>11.1f} us'
        line += f'{fast_us:>11.1f} us fast' if fast_us else " " * 19
        if fast_us:
            figure["fast_us"] = fast_us
        line += f'{torch_us:>11.1f} us torch' if torch_us else " " * 20
        if aim:
            what, value, asked = aim
            figure["target"] = {"what": what, "value": round(value, 3), "asked": asked, "met": value >= asked}
            met, missed = met + (value >= asked), missed + (value < asked)
            line += f"   {value:5.2f} {what} (asked {asked})" + ("" if value >= asked else "  MISSED")
        print(line)
    ours["machine"] = machine
    ours["torch"] = {key: value for key, value in theirs.items() if key != "us"}
    ours["met"], ours["missed"] = met, missed
    with open(results_path, "w") as file:
        json.dump(ours, file, indent=1)
    print(f"verdict: {met} targets met, {missed} missed ({results_path})")


if __name__ == "__main__":
    main(*sys.argv[1:])
