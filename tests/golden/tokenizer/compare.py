#!/usr/bin/env python3
"""Compares our tokenizer with the Hugging Face library, id for id and byte for byte, on a lot of text.

    compare.py TOOL_ENCODE [--tokenizer FILE]... [--text FILE]... [--megabytes N] [--seed N]

TOOL_ENCODE is build/tests/model/tool_encode.  Without --tokenizer: the ones of this folder.  The text is
random Unicode of many kinds, and the files given.  Ends with 1 and the first difference if there is one.
"""
import argparse
import pathlib
import random
import struct
import subprocess
import sys
import time
import unicodedata

from tokenizers import Tokenizer, normalizers

NFC = normalizers.NFC()
HERE = pathlib.Path(__file__).parent
RANGES = [(0x20, 0x7e, 40), (0x9, 0xd, 4), (0xa0, 0x24f, 6), (0x300, 0x36f, 3), (0x370, 0x52f, 4), (0x590, 0x6ff, 4),
          (0x900, 0xdff, 4), (0xe00, 0xeff, 2), (0x1100, 0x11ff, 2), (0x1e00, 0x206f, 4), (0x2070, 0x2bff, 3),
          (0x3040, 0x30ff, 3), (0x4e00, 0x9fff, 4), (0xac00, 0xd7a3, 3), (0xf900, 0xffef, 2), (0x10000, 0x1ffff, 3),
          (0x20000, 0x2fa1f, 1)]
WORDS = ["the", "Baton", "it's", "they'LL", "1234", "  ", "\n\n", "\r\n", "\t", "<|eot|>", "<|begin|>", "<mask>",
         "word", "<left>", "<right>", "tokén", "toke\u0301n", "<|日本|>", "😀", "👨‍👩‍👧‍👦", "...", "!!", "日本語", "for(i=0;", " "]


def known(character):
    """Characters of which the libraries concerned know the same: the Unicode of the Hugging Face normalizer
    is older (13) than that of utf8proc, so a mark that is younger (U+0C3C) is none there."""
    if unicodedata.category(character) in ("Cn", "Cs"):
        return False
    texts = [character + "\u0334", "\u0345" + character] if unicodedata.combining(character) else [character]
    return all(NFC.normalize_str(text) == unicodedata.normalize("NFC", text) for text in texts)


def random_text(rng, size):
    kinds = [(a, b) for a, b, _ in RANGES]
    weights = [w for _, _, w in RANGES]
    parts, length = [], 0
    while length < size:
        if rng.random() < 0.3:
            part = rng.choice(WORDS)
        else:
            a, b = rng.choices(kinds, weights)[0]
            run = rng.choice([1, 1, 2, 3, 5, 8, 20])
            part = "".join(c for c in (chr(rng.randint(a, b)) for _ in range(run)) if known(c))
            if rng.random() < 0.05 and part:
                part = part[0] * rng.randint(2, 200)
        parts.append(part)
        length += len(part.encode())
    return "".join(parts)


def chunks(data, size=20000):
    for i in range(0, len(data), size):
        yield data[i:i + size]


def run_tool(tool, tokenizer, texts, plain):
    stdin = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    start = time.monotonic()
    out = subprocess.run([tool, tokenizer] + (["plain"] if plain else []), input=stdin, stdout=subprocess.PIPE,
                         check=True).stdout
    seconds = time.monotonic() - start
    at, answers = 0, []
    for _ in texts:
        count, = struct.unpack_from("<I", out, at)
        ids = list(struct.unpack_from(f"<{count}I", out, at + 4))
        at += 4 + 4 * count
        length, = struct.unpack_from("<I", out, at)
        answers.append((ids, out[at + 4:at + 4 + length]))
        at += 4 + length
    return answers, seconds


def compare(tool, path, texts, plain):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = plain
    answers, seconds = run_tool(tool, str(path), texts, plain)
    ids_total = 0
    for raw, (ids, decoded) in zip(texts, answers):
        text = raw.decode("utf-8", "replace")
        expected = tokenizer.encode(text, add_special_tokens=not plain).ids
        ids_total += len(expected)
        if ids != expected:
            first = next(i for i, (a, b) in enumerate(zip(ids + [-1], expected + [-2])) if a != b)
            before = tokenizer.decode(expected[:first], skip_special_tokens=False)
            return (f"{path}: differs at id {first}: ours {ids[first:first + 8]}, expected {expected[first:first + 8]}"
                    f"\n  {[tokenizer.id_to_token(i) for i in ids[first:first+8]]}"
                    f"\n  {[tokenizer.id_to_token(i) for i in expected[first:first+8]]}"
                    f"\n  after {before[-40:]!r}")
        if decoded.decode("utf-8") != tokenizer.decode(expected, skip_special_tokens=False):
            return f"{path}: the decoded text differs: {text[:60]!r}"
    size = sum(map(len, texts))
    print(f"{path.name}{' plain' if plain else ''}: {size} bytes, {ids_total} ids equal; "
          f"ours {size / seconds / 1e6:.1f} MB/s with loading", flush=True)
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("--tokenizer", action="append", type=pathlib.Path, default=[])
    parser.add_argument("--text", action="append", type=pathlib.Path, default=[])
    parser.add_argument("--megabytes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    size = int(args.megabytes * 1e6)
    texts = [random_text(rng, 20000).encode() for _ in range(size // 20000)]
    texts += [random_text(rng, rng.randint(0, 200)).encode() for _ in range(2000)]
    for file in args.text:
        texts += chunks(file.read_bytes())
    broken = [bytes(rng.randrange(256) for _ in range(rng.randint(1, 40))) for _ in range(500)]
    tokenizers = args.tokenizer or [p for p in sorted(HERE.glob("*.json")) if not p.name.endswith(".cases.json")]
    for path in tokenizers:
        for plain in (False, True):
            difference = compare(args.tool, path, texts + broken, plain)
            if difference:
                print(difference)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
