#!/usr/bin/env python3
"""The programs are built as the root meson.build says: position independent, relocations read-only once bound, no executable
stack, stack protector, FORTIFY, branch targets marked (x86), asserts on.

usage: check_hardening.py PROGRAM …
"""
import pathlib
import re
import subprocess
import sys


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def faults(program):
    """What is missing."""
    header, segments, dynamic = output("readelf", "-hW", program), output("readelf", "-lW", program), output("readelf", "-dW", program)
    imports = set(re.findall(r" U (\w+)", output("nm", "-D", program)))
    stack = re.search(r"GNU_STACK.*?(R\S*)\s+0x", segments)
    wanted = {
        "PIE": re.search(r"Type:\s+DYN", header) and "PIE" in dynamic,
        "RELRO": "GNU_RELRO" in segments,
        "BIND_NOW": re.search(r"BIND_NOW|FLAGS_1.*NOW", dynamic),
        "a stack without execution": stack and "E" not in stack[1],
        "stack protector": "__stack_chk_fail" in imports,
        "FORTIFY": any(name.endswith("_chk") and name.startswith("__") for name in imports),
        "asserts": "__assert_fail" in imports,
    }
    if "X86-64" in header:
        begin = output("objdump", "-d", "--no-show-raw-insn", "--disassemble=main", program)
        wanted["endbr64 at main"] = re.search(r"<main>:\n\s*[0-9a-f]+:\s+endbr64", begin)
    return [name for name, present in wanted.items() if not present]


def main(programs):
    bad = [f"{pathlib.Path(program).name} lacks {name}" for program in programs for name in faults(program)]
    print("\n".join(bad) or f"{len(programs)} programs are hardened")
    return 1 if bad or not programs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
