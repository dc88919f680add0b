#!/usr/bin/env python3
"""Builds what runs on a GPU machine: base, kernels and engine by a C and a C++ compiler and nvcc (run, ../../bench/gpu/run).

    tests/gpu/build.py [NINJA OPTION...] TARGET...     tests, bench

The project's own build is meson's; this one has no libraries: plain/ stands in for two of them.  It writes OUT/build.ninja
(OUT: build-gpu/) and runs ninja.  NVCC, CC; TARGET: the GPU (90a).
"""

import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OUT = Path(os.environ.get("OUT") or ROOT / "build-gpu").resolve()
TARGET = os.environ.get("TARGET") or "90a"

WARNINGS = "-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers"
COMMON = f"-g -D_GNU_SOURCE -DBATON_CUDA -ffp-contract=off {WARNINGS} -I{HERE}/plain -I{ROOT}"
CFLAGS = f"-std=gnu11 -fno-math-errno {COMMON}"
NVCCFLAGS = f"-std=c++17 --fmad=false -gencode=arch=compute_{TARGET},code=sm_{TARGET} -D_GNU_SOURCE -I{ROOT}"
# The backend's own sources: warnings are errors, and nvcc.sh reads what -v says.
STRICT = f"-O3 -Werror all-warnings -Xptxas -v -Xcompiler {','.join(WARNINGS.split())},-ffp-contract=off"
# Tests in C++ have kernels of their own, or look into the backend.
TEST = f"-x cu -I{HERE}/plain -Xcompiler {','.join(WARNINGS.split())}"

AVX2 = "-mavx2 -mfma"
AVX512 = f"{AVX2} -mavx512f -mavx512bw -mavx512vl -mavx512dq"
VARIANTS = {
    "portable": "-DKERNEL_ISA=0",
    "avx2": f"-DKERNEL_ISA=1 {AVX2}",
    "avx512": f"-DKERNEL_ISA=2 {AVX512}",
    "avx512bf16": f"-DKERNEL_ISA=3 {AVX512} -mavx512bf16",
}

BASE = "err exact log why"
KERNELS = "device host ops peer_memory"
ENGINE = "experts_local forward kv_mirror kv_ranks kv_side latent layers layers_memory ranks rope sampler shard"

# What a test has besides: of whole models how they are made, are loaded, and share blocks.
WHOLE = "kv_neighbour load_file load_plan load_reader tensor_rows weights weights_e4m3 weights_latent"
BESIDE = {"test_forward": ["tests/gpu/made_model.c", "tests/gpu/made_weights.c", "tests/gpu/plain/sha256.c", "model/tensors.c",
                           *(f"engine/{name}.c" for name in WHOLE.split())]}

RULES = """\
rule cc
  command = $cc -MMD -MF $out.d $flags -c $in -o $out
  depfile = $out.d
  deps = gcc
  description = $out
rule nvcc
  command = $root/kernels/cuda/nvcc.sh $out $nvcc -MD -MF $out.d $flags -c $in -o $out
  depfile = $out.d
  deps = gcc
  description = $out
rule link
  command = $nvcc -cudart static $in -lpthread -lm -o $out
  description = $out
"""


def sources(folder: str, names: str) -> list[str]:
    return [f"{folder}/{name}.c" for name in names.split()]


def found(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))


def runs_on_a_gpu(test: str) -> bool:
    """Not what cannot do without the fake device, or without all of model/."""
    text = (ROOT / test).read_text()
    needs_fake = 'fake.h"' in text and "__has_include" not in text
    return not needs_fake and "model/model_dir.h" not in text and not test.endswith("test_plain.c")


class Build:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def make(self, rule: str, out: str, inputs: list[str], flags: str = "") -> str:
        self.lines.append(f"build {out}: {rule} {' '.join(inputs)}")
        if flags:
            self.lines.append(f"  flags = {flags}")
        return out

    def compile(self, source: str, optimise: str = "-O3", folder: str = "", more: str = "") -> str:
        stem, suffix = os.path.splitext(source)
        rule, flags = {".c": ("cc", CFLAGS), ".cc": ("nvcc", f"{NVCCFLAGS} {TEST}"), ".cu": ("nvcc", f"{NVCCFLAGS} {STRICT}")}[suffix]
        flags += "" if suffix == ".cu" else f" {optimise} {more}"
        return self.make(rule, f"{folder}{stem}.o", [f"$root/{source}"], flags)

    def objects(self) -> list[str]:
        plain = sources("base", BASE) + sources("kernels", KERNELS) + sources("engine", ENGINE) + found("kernels/cpu/*.c")
        objects = [self.compile(source) for source in plain + found("kernels/cuda/*.cu") + ["tests/gpu/plain/digest.c"]]
        for name, flags in VARIANTS.items():
            objects += [self.compile(source, folder=f"{name}/", more=f"-DKERNEL_VARIANT={name} {flags}")
                        for source in found("kernels/cpu/variant/*.c")]
        return objects


def tool(variable: str, *names: str) -> str:
    """What the variable says, or the first of these that is there."""
    named = os.environ.get(variable)
    for command in [named] if named else names:
        if shutil.which(shlex.split(command)[0]):
            return command
    sys.exit(f"build.py: error: there is no {named or names[0]} ({variable} names another)")


def ninja_file() -> str:
    build = Build()
    objects = build.objects()
    programs = []
    for test in filter(runs_on_a_gpu, found("tests/gpu/test_*.c*")):
        name = Path(test).stem
        own = [build.compile(test, "-O1")] + [build.compile(source) for source in BESIDE.get(name, [])]
        programs.append(build.make("link", name, own + objects))
    build.make("phony", "tests", programs)
    build.make("link", "bench_gpu", [build.compile(source) for source in found("bench/gpu/*.c")] + objects)
    build.make("phony", "bench", ["bench_gpu"])
    tools = {"root": str(ROOT), "cc": tool("CC", "cc", "gcc"), "nvcc": tool("NVCC", "nvcc")}
    return "".join(f"{name} = {value}\n" for name, value in tools.items()) + RULES + "\n".join(build.lines) + "\n"


def ninja_command() -> list[str]:
    if shutil.which("ninja"):
        return ["ninja"]
    if importlib.util.find_spec("ninja"):
        return [sys.executable, "-m", "ninja"]
    sys.exit("build.py: error: there is no ninja: neither a program nor a module of this Python")


def main() -> None:
    ninja = ninja_command()
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "build.ninja").write_text(ninja_file())
    command = [*ninja, "-C", str(OUT), *sys.argv[1:]]
    os.execvp(command[0], command)


main()
