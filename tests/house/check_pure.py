#!/usr/bin/env python3
"""The pure libraries import no clock, socket, file, thread or allocation symbol (law 4).

usage: check_pure.py --support LIB.a … --pure LIB.a …

Every symbol that a pure library needs must be defined by a pure library, be on the short list below, or come from an
object of a support library (base, proto) whose own needs pass the same test.
"""
import subprocess
import sys

# What C itself gives without state: memory and text in place, formatting into a buffer, assert, mathematics.
ALLOWED = set("""memcpy memmove memset memcmp memchr strlen strcmp strncmp strcpy strncpy strchr strrchr strstr strnlen
snprintf vsnprintf strspn __assert_fail __stack_chk_fail
__memcpy_chk __memset_chk __memmove_chk __strncpy_chk __snprintf_chk __vsnprintf_chk __strcpy_chk
SHA256_Init SHA256_Update SHA256_Final XXH3_64bits XXH3_64bits_withSeed
sqrt sqrtf exp expf log logf log2 pow fabs fmin fmax floor ceil lround
__popcountdi2 protobuf_c_empty_string _GLOBAL_OFFSET_TABLE_""".split())


def objects(archive):
    """{object: (defined, needed)} of an archive."""
    out = subprocess.run(["nm", "-A", archive], capture_output=True, text=True, check=True).stdout
    result = {}
    for line in out.splitlines():
        place, _, rest = line.rpartition(":")
        fields = rest.split()
        if len(fields) < 2:
            continue
        kind, symbol = fields[-2], fields[-1]
        defined, needed = result.setdefault(place, (set(), set()))
        if kind in "Uu" and len(fields) == 2 and kind == "U":
            needed.add(symbol)
        elif kind.isupper():
            defined.add(symbol)
    return result


def is_sanitizer(symbol):
    return symbol.startswith(("__asan_", "__ubsan_", "__tsan_", "__sanitizer_", "__llvm_", "__gcov"))


def main(arguments):
    split = arguments.index("--pure")
    support, pure = arguments[1:split], arguments[split + 1:]
    home = {}
    for archive in support:
        for name, (defined, needed) in objects(archive).items():
            for symbol in defined:
                home[symbol] = (name, needed)
    own, todo = set(), []
    for archive in pure:
        parts = objects(archive)
        assert parts, archive + " is empty"
        for name, (defined, needed) in parts.items():
            own |= defined
            todo += [(symbol, name) for symbol in needed]
    bad, seen = [], set()
    while todo:
        symbol, user = todo.pop()
        if symbol in own or symbol in ALLOWED or symbol in seen or is_sanitizer(symbol):
            continue
        # Messages are plain structs: their initialisers and descriptors, never their packing.
        if symbol.startswith("wire__") and symbol.endswith(("__init", "__descriptor")):
            continue
        seen.add(symbol)
        if symbol in home and not symbol.startswith("wire__"):
            name, needed = home[symbol]
            todo += [(further, name) for further in needed]
        else:
            bad.append(f"{user} needs {symbol}")
    print("\n".join(sorted(bad)) or f"{len(pure)} pure libraries need nothing of the world")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
