#!/usr/bin/env python3
"""Includes follow the table of docs/ARCHITECTURE.md, files and functions keep their size.

usage: check_layout.py ROOT

Rules: an include of ours names a room that the including room may use; a *_impl.h (and a room's job.h) is included by
its own room only; no file is over 800 lines; the median function has at most 15 lines, the 95th percentile at most 60; files that the documentation names exist.
"""
import json
import pathlib
import re
import statistics
import subprocess
import sys

ROOMS = ["base", "proto", "model", "kernels", "net", "engine", "kvstore", "experts", "prefill", "decode", "node",
         "coordinator", "tools"]
LINE_MAX, MEDIAN_MAX, P95_MAX = 800, 15, 60


def table(root):
    """{room: allowed}: the rows `| room | what | may include |` of the architecture page."""
    allowed = {}
    for line in (root / "docs/ARCHITECTURE.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        room = cells[0].strip("`/ ") if cells else ""
        if len(cells) == 3 and room in ROOMS:
            allowed[room] = set(re.findall(r"`([a-z_]+(?:/[a-z_]+\.h)?)`", cells[2])) | {room}
    missing = [room for room in ROOMS if room not in allowed and any((root / room).glob("*.[ch]"))]
    assert not missing, f"docs/ARCHITECTURE.md has no row for {missing}"
    return allowed


def sources(root):
    """Ours are in the rooms' folders; what is built lies elsewhere."""
    return sorted(path for room in ROOMS + ["tests", "bench"] for path in (root / room).rglob("*")
                  if path.suffix in (".c", ".h", ".cc", ".hh", ".cu"))


def check_includes(root, files, allowed):
    bad = []
    for path in files:
        relative = path.relative_to(root)
        room = relative.parts[0]
        if room not in allowed:
            continue
        # A main.c wires rooms together ("two of these: I am wiring"); it may also look at the programs' shared parts.
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not match or match.group(1).endswith(".pb.h") and "/" not in match.group(1):
                continue
            target = match.group(1)
            other = target.split("/")[0]
            private = target.endswith("_impl.h") or target.endswith("/job.h") and other in ("prefill", "decode")
            if other not in ROOMS or (other != room and private) or not (allowed[room] & {other, target}):
                bad.append(f"{relative}:{number}: {room}/ may not include \"{target}\"")
    return bad


def check_mentions(root):
    """Files that the documentation names exist."""
    bad = []
    pages = [root / "README.md", root / "CONTRIBUTING.md", *root.glob("docs/**/*.md"), *root.glob("*/README.md")]
    for page in pages:
        for match in re.finditer(r"`([a-z_]+(?:/[a-z_0-9.]+)*/[a-z_0-9-]+\.(?:c|h|cc|hh|py|sh|md|proto))`", page.read_text()):
            if not (root / match[1]).exists() and not (page.parent / match[1]).exists():
                bad.append(f"{page.relative_to(root)} names {match[1]}, which is not there")
    return bad


def function_lengths(root, files):
    command = ["ctags", "--output-format=json", "--fields=+ne", "--kinds-C=f", "--kinds-C++=f", "-o", "-", "-L", "-"]
    names = "\n".join(str(f) for f in files if f.suffix in (".c", ".cc"))
    out = subprocess.run(command, input=names, capture_output=True, text=True, check=True).stdout
    tags = [json.loads(line) for line in out.splitlines()]
    return [(t["end"] - t["line"] + 1, f'{t["path"]}:{t["name"]}') for t in tags if "end" in t]


def main(root):
    files = sources(root)
    bad = check_includes(root, files, table(root)) + check_mentions(root)
    for path in files:
        lines = len(path.read_text().splitlines())
        if lines > LINE_MAX:
            bad.append(f"{path.relative_to(root)}: {lines} lines, at most {LINE_MAX}")
    ours = [f for f in files if f.relative_to(root).parts[0] in ROOMS]
    lengths = sorted(function_lengths(root, ours))
    numbers = [n for n, _ in lengths]
    median, p95 = statistics.median(numbers), numbers[int(len(numbers) * 0.95)]
    if median > MEDIAN_MAX:
        bad.append(f"the median function has {median} lines, at most {MEDIAN_MAX}")
    if p95 > P95_MAX:
        bad.append(f"5 % of functions have over {p95} lines, at most {P95_MAX}")
    print(f"{len(files)} files, {len(numbers)} functions: median {median}, p95 {p95}, longest {lengths[-1]}")
    print("\n".join(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
