#!/usr/bin/env python3
"""Suppressions name other people's libraries only, and each has a reason above it.

usage: check_sanitizers.py ROOT
"""
import pathlib
import re
import sys

# UCX, NNG, gRPC (with the libraries that it brings: abseil, protobuf, upb, and OpenSSL as it drives it) and libevent.
OTHERS = re.compile(r"(race|race_top|leak|mutex|deadlock|signal|thread):"
                    r"(libuc[pstm]\w*\.so|libnng\.so|libgrpc(\+\+)?\.so|libgpr\.so|grpc::|libabsl_|libprotobuf|libupb\.so|lib(ssl|crypto)\.so|libevent\w*)")


def check(path):
    bad, reason = [], False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("#"):
            reason = True
        elif not line.strip():
            reason = False
        elif not reason:
            bad.append(f"{path.name}:{number}: no reason stands above {line!r}")
        elif not OTHERS.fullmatch(line):
            bad.append(f"{path.name}:{number}: {line!r} is no frame of UCX, NNG, gRPC or libevent")
    return bad


def main(root):
    files = sorted((root / "tests/sanitizers").glob("*.suppressions"))
    bad = [text for path in files for text in check(path)]
    elsewhere = [path for path in root.glob("*/**/*.suppressions")
                 if path not in files and not path.relative_to(root).parts[0].startswith("build")]
    bad += [f"{path.relative_to(root)}: suppressions belong to tests/sanitizers/" for path in elsewhere]
    print("\n".join(bad) or f"{len(files)} files of suppressions name other people's libraries only")
    return 1 if bad or not files else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
