#!/usr/bin/env python3
"""Runs the benchmarks of the CUDA backend, section by section, the targets' first; then the verdict.

usage: measure.py --bench BENCH_GPU --folder FOLDER --began EPOCH_SECONDS [--machine TEXT] RESULTS.json

A section has so many seconds, and all of them together what LIMIT_S leaves behind the build; one that runs longer is ended, and what it has
written by then stays.  What was cut short, failed or left out is said, and is in the results.
"""
import argparse
import glob
import json
import os
import pathlib
import signal
import site
import subprocess
import sys
import sysconfig
import time

import verdict

HERE = pathlib.Path(__file__).resolve().parent
LIMIT_S = 465  # of the 8 minutes, from the beginning of the build
BUILD_S = 120  # what the build is taken to need at most: more of it is taken from the last sections
GRACE_S = 10   # a section stops taking on work by itself, and is ended so much later
LEAST_S = 5    # less than that is not worth a start

# (name, what runs, seconds): "exact …" and "fast …" are sections of bench_gpu, "torch …" those of torch_side.py.
SECTIONS = (
    ("products", "exact products", 75),
    ("attention", "exact attention", 15),
    ("models", "exact models", 50),
    ("torch-attention", "torch attention", 45),
    ("fast", "fast products attention models", 50),
    ("sweep", "exact sweep", 60),
    ("rows", "exact experts rows fetch sample handover pin", 30),
    ("torch-rows", "torch rows products", 20),
)


def command(what, bench, seconds):
    kind, *sections = what.split()
    program = [sys.executable, str(HERE / "torch_side.py")] if kind == "torch" else [bench, kind]
    return [*program, str(int(seconds)), *sections]


def library_folders():
    """Where cuBLASLt may be: CUDA's own folder, and those of Python's packages."""
    roots = {sysconfig.get_paths()["purelib"], *site.getsitepackages()}
    folders = sorted({folder for root in roots for folder in glob.glob(f"{root}/nvidia/*/lib")})
    return [*folders, *sorted(glob.glob("/usr/local/cuda*/lib64"))]


def environment():
    known = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join([*known, *library_folders()])}


def last_line(log):
    lines = log.read_text(errors="replace").split("\n")
    said = [line for line in lines if line.strip()]
    return f": {said[-1][:200]}" if said else ""


def run_section(name, argv, seconds, folder):
    """Its status: "done", "cut short", or how it failed."""
    with open(folder / f"{name}.jsonl", "wb") as figures, open(folder / f"{name}.log", "wb") as log:
        try:
            process = subprocess.Popen(argv, stdout=figures, stderr=log, env=environment(), start_new_session=True)
        except OSError as error:
            return f"failed: {error.strerror}"
        try:
            status = process.wait(seconds)
            return "done" if status == 0 else f"failed: exit status {status}{last_line(folder / f'{name}.log')}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "cut short"


def measure(bench, folder, ends, sections=SECTIONS, now=time.time):
    """What became of each section; figures are in folder/NAME.jsonl."""
    report = []
    for old in folder.glob("*.jsonl"):
        old.unlink()
    for name, what, budget in sections:
        left = ends - now()
        seconds = min(budget, left - GRACE_S)
        began = now()
        if seconds < LEAST_S:
            status = "skipped: no time left"
        else:
            status = run_section(name, command(what, bench, seconds), seconds + GRACE_S, folder)
        report.append({"section": name, "status": status, "seconds": round(now() - began, 1), "budget": budget})
        print(f"{name}: {status}, {report[-1]['seconds']} s of {budget}", flush=True)
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench", required=True)
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("--began", required=True, type=float)
    parser.add_argument("--machine", default="")
    parser.add_argument("results")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    report = measure(options.bench, options.folder, options.began + LIMIT_S)
    (options.folder / "sections.json").write_text(json.dumps(report, indent=1))
    return verdict.judge(options.folder, options.machine, options.results)


if __name__ == "__main__":
    sys.exit(main())
