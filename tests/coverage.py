#!/usr/bin/env python3
"""Branch coverage of the ledger, the protocol and the parsers, from the counters of a build with -Db_coverage=true.

usage: coverage.py ROOT BUILD [--lines FILE]     (--lines: the branches of one file that were never taken)

A branch counts when some test took it.  Left out by rule, and by nothing else: the branches of an assert(), on all of its lines
(the way on from a false one is the end of the program), and those that the compiler makes for exceptions.  Fails when a group
is under WANTED.
"""
import collections
import fnmatch
import gzip
import json
import pathlib
import re
import subprocess
import sys
import tempfile

GROUPS = {
    "ledger": ["kvstore/*.c"],
    "protocol": ["proto/c*.c", "proto/sampling.c", "net/session.c", "net/stream*.c", "coordinator/core.c", "coordinator/index*.c",
                 "coordinator/job*.c", "coordinator/registry.c", "coordinator/request.c", "coordinator/route.c",
                 "coordinator/tokens.c", "prefill/*.c", "decode/*.c", "node/core.c", "node/report.c", "node/step.c"],
    "parsers": ["base/options*.c", "coordinator/request_*.c", "coordinator/stop.c", "model/*.c", "net/http_parse.c",
                "net/link_address.c", "net/member.c"],
}
LEFT_OUT = ["*/main.c"]
WANTED = 90.0
TEXTS = r"'\\?.'" + r'|"(?:\\.|[^"])*"'  # of C, on one line


def group_of(path):
    if any(fnmatch.fnmatch(path, pattern) for pattern in LEFT_OUT):
        return None
    return next((name for name, patterns in GROUPS.items() if any(fnmatch.fnmatch(path, p) for p in patterns)), None)


def lines_of_asserts(text):
    """Numbers, from 1 on."""
    found, depth = set(), 0
    for number, line in enumerate(text, 1):
        if depth or line.lstrip().startswith("assert("):
            found.add(number)
            code = re.sub(TEXTS, "", line)
            depth += code.count("(") - code.count(")")
    return found


def read(build, root):
    """{path: {(line, index): times taken}}, added up over all objects that hold the file."""
    counters = sorted(p for p in build.rglob("*.gcda") if "tests/fuzz" not in str(p))
    branches = collections.defaultdict(lambda: collections.defaultdict(int))
    with tempfile.TemporaryDirectory() as folder:
        for part in range(0, len(counters), 40):
            subprocess.run(["gcov", "--branch-probabilities", "--json-format", "--preserve-paths", *counters[part:part + 40]],
                           cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        for file in pathlib.Path(folder).glob("*.gcov.json.gz"):
            report = json.loads(gzip.open(file).read())
            for source in report["files"]:
                path = (pathlib.Path(report["current_working_directory"]) / source["file"]).resolve()
                if not path.is_relative_to(root):
                    continue
                name = str(path.relative_to(root))
                if not group_of(name):
                    continue
                asserts = lines_of_asserts(path.read_text().splitlines())
                for line in source["lines"]:
                    if line["line_number"] in asserts:
                        continue
                    for index, branch in enumerate(line["branches"]):
                        if not branch["throw"]:
                            branches[name][line["line_number"], index] += branch["count"]
    return branches


def main(arguments):
    root, build = pathlib.Path(arguments[0]).resolve(), pathlib.Path(arguments[1]).resolve()
    branches = read(build, root)
    if "--lines" in arguments:
        name = arguments[arguments.index("--lines") + 1]
        text = (root / name).read_text().splitlines()
        for line in sorted({line for (line, _), taken in branches[name].items() if not taken}):
            print(f"{line:5} {text[line - 1]}")
        return 0
    enough = True
    for group in GROUPS:
        total = taken = 0
        rows = []
        for name in sorted(n for n in branches if group_of(n) == group):
            counts = branches[name].values()
            total, taken = total + len(counts), taken + sum(1 for c in counts if c)
            rows.append((100 * sum(1 for c in counts if c) / len(counts), sum(1 for c in counts if not c), len(counts), name))
        for percent, lacking, count, name in sorted(rows):
            print(f"  {percent:5.1f} %  {lacking:4} of {count:4} not taken  {name}")
        percent = 100 * taken / max(total, 1)
        print(f"{group}: {percent:.1f} % of {total} branches\n")
        enough &= percent >= WANTED
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
