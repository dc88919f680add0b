#!/usr/bin/env python3
"""What we ship has no trace of the planted bugs (base/planted.h); the program that is built with them has.

usage: check_planted.py PLANTED_PROGRAM --shipped PROGRAM…

Looked for: the symbol of the switch, and what the table says of each bug, as bytes of the file.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def traces(program):
    """How many of the traces of planted bugs a program has."""
    words = re.findall(r'"([^"]{12,})"', (ROOT / "base/planted.h").read_text().split("#define PLANTED_BUGS")[1])
    assert len(words) >= 4, "base/planted.h has no table"
    data = pathlib.Path(program).read_bytes()
    found = [word for word in words if word.encode() in data]
    symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    found += [line.split()[-1] for line in symbols.splitlines() if "planted_now" in line]
    return found


def main(arguments):
    planted, shipped = arguments[1], arguments[3:]
    assert arguments[2] == "--shipped" and len(shipped) >= 5
    if len(traces(planted)) < 5:
        print(f"{planted} has no planted bugs: this test looks for the wrong thing")
        return 1
    bad = [f"{program} has {found}" for program in shipped if (found := traces(program))]
    print("\n".join(bad) or f"{len(shipped)} programs have no trace of planted bugs")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
