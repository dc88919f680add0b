#!/usr/bin/env python3
"""Compares our tokenizer with the Hugging Face library, id for id and byte for byte, on a lot of text.

    compare.py TOOL_ENCODE [--tokenizer FILE]... [--megabytes N] [--families] [--text FILE]... [--seed N]

TOOL_ENCODE is build/tests/model/tool_encode.  Without --tokenizer: the ones of this folder; with --families tokenizers of
8,000 tokens for each published shape are trained first, on the same kinds of text.  The text is a third messages
of this machine's programs in all their languages, a third source code, a third random Unicode of many kinds with long
runs; and bytes that are no UTF-8.  Lists of random ids are decoded besides.  Ends with 1 if anything differs, and shows
the first difference of each tokenizer.
"""
import argparse
import gettext
import json
import pathlib
import random
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
import unicodedata

from tokenizers import Tokenizer, normalizers, pre_tokenizers

HERE = pathlib.Path(__file__).parent
FORMS = {name: getattr(normalizers, name)() for name in ("NFC", "NFKC")}
LOWER, MARKS, PUNCTUATION = normalizers.Lowercase(), normalizers.StripAccents(), pre_tokenizers.Punctuation()
RANGES = [(0x20, 0x7e, 40), (0x9, 0xd, 4), (0xa0, 0x24f, 6), (0x300, 0x36f, 3), (0x370, 0x52f, 4), (0x590, 0x6ff, 4),
          (0x900, 0xdff, 4), (0xe00, 0xeff, 2), (0x1100, 0x11ff, 2), (0x1e00, 0x206f, 4), (0x2070, 0x2bff, 3),
          (0x3040, 0x30ff, 3), (0x4e00, 0x9fff, 4), (0xac00, 0xd7a3, 3), (0xf900, 0xffef, 2), (0x10000, 0x1ffff, 3),
          (0x20000, 0x2fa1f, 1)]
WORDS = ["the", "Baton", "it's", "they'LL", "1234", "  ", "\n\n", "\r\n", "\t", "<|eot|>", "<|begin|>", "<mask>", "▁", "</s>",
         "word", "<left>", "<right>", "tokén", "toke\u0301n", "<|日本|>", "😀", "👨‍👩‍👧‍👦", "...", "!!", "日本語", "for(i=0;", " ", "<0x0A>"]
KNOWN = {}


def known(character):
    """Characters of which the libraries concerned know the same: the Unicode of the Hugging Face normalizers and of its
    Punctuation is older than that of utf8proc and PCRE2, so what is younger (the marks U+0C3C and U+0C04, the sign
    U+09FD) is none there."""
    if character not in KNOWN:
        category = unicodedata.category(character)
        texts = [character + "\u0334", "\u0345" + character] if unicodedata.combining(character) else [character]
        KNOWN[character] = (category not in ("Cn", "Cs") and LOWER.normalize_str(character) == character.lower()
                            and (MARKS.normalize_str(character) == "") == (category[0] == "M")
                            and (len(PUNCTUATION.pre_tokenize_str("a" + character)) == 2) == (category[0] == "P" or character in "$+<=>^`|~")
                            and all(form.normalize_str(text) == unicodedata.normalize(name, text)
                                    for text in texts for name, form in FORMS.items()))
    return KNOWN[character]


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


def messages(size):
    """What the programs of this machine say, one message a line, a little of each language in turn."""
    files = sorted(pathlib.Path("/usr/share/locale").glob("*/LC_MESSAGES/*.mo"), key=lambda path: (path.name, path.parts[4]))
    for path in files:
        if size <= 0:
            return
        with path.open("rb") as file:
            try:
                catalog = gettext.GNUTranslations(file)._catalog
            except (OSError, UnicodeDecodeError, ValueError):
                continue
        text = "\n".join(str(m) for m in catalog.values())[:60000]
        text = "".join(c for c in text if known(c))
        yield text
        size -= len(text.encode())


def source(size):
    for path in sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py")) + sorted(HERE.parents[2].glob("*/*.c")):
        if size <= 0:
            return
        text = "".join(c for c in path.read_text(errors="replace") if known(c))
        yield text
        size -= len(text.encode())


def chunks(texts, size=20000):
    """Cut at characters."""
    for text in texts:
        for i in range(0, len(text), size):
            yield text[i:i + size].encode()


def run_tool(tool, tokenizer, mode, data):
    start = time.monotonic()
    out = subprocess.run([tool, tokenizer, mode], input=data, stdout=subprocess.PIPE, check=True).stdout
    return out, time.monotonic() - start


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self):
        self.at += 4
        return struct.unpack_from("<I", self.data, self.at - 4)[0]

    def bytes(self):
        length = self.number()
        self.at += length
        return self.data[self.at - length:self.at]

    def ids(self):
        count = self.number()
        self.at += 4 * count
        return list(struct.unpack_from(f"<{count}I", self.data, self.at - 4 * count))


class Difference(Exception):
    pass


def compare_ids(tokenizer, ids, expected, text):
    if ids == expected:
        return
    first = next(i for i, (a, b) in enumerate(zip(ids + [-1], expected + [-2])) if a != b)
    before = tokenizer.decode(expected[:first], skip_special_tokens=False)
    ours, theirs = ([(i, tokenizer.id_to_token(i)) for i in some[first:first + 6]] for some in (ids, expected))
    raise Difference(f"id {first} of {len(expected)}: ours {ours}, expected {theirs}\n  after {before[-40:]!r}; text {text[:40]!r}")


def compare_text(decoded, expected):
    decoded = decoded.decode("utf-8")
    if decoded != expected:
        first = next((i for i, (a, b) in enumerate(zip(decoded, expected)) if a != b), min(len(decoded), len(expected)))
        raise Difference(f"decoded at {first}: ours {decoded[first - 5:first + 20]!r}, expected {expected[first - 5:first + 20]!r}")


def compare_encoding(tool, path, tokenizer, texts, plain):
    tokenizer.encode_special_tokens = plain
    out, seconds = run_tool(tool, str(path), "plain" if plain else "", b"".join(struct.pack("<I", len(t)) + t for t in texts))
    reader, total = Reader(out), 0
    for raw in texts:
        text = raw.decode("utf-8", "replace")
        expected = tokenizer.encode(text, add_special_tokens=not plain).ids
        compare_ids(tokenizer, reader.ids(), expected, text)
        compare_text(reader.bytes(), tokenizer.decode(expected, skip_special_tokens=False))
        total += len(expected)
    return total, seconds


def compare_decoding(tool, path, tokenizer, lists):
    out, _ = run_tool(tool, str(path), "decode", b"".join(struct.pack(f"<I{len(ids)}I", len(ids), *ids) for ids in lists))
    reader = Reader(out)
    for ids in lists:
        for skip in (False, True):
            compare_text(reader.bytes(), tokenizer.decode(ids, skip_special_tokens=skip))
    return sum(map(len, lists))


def random_ids(rng, tokenizer, count):
    """Lists of all ids, with many bytes and special tokens where there are any."""
    size = max(tokenizer.get_vocab().values()) + 1
    byte_ids = [tokenizer.token_to_id(f"<0x{b:02X}>") for b in range(256)]
    byte_ids = [i for i in byte_ids if i is not None] or list(range(min(size, 256)))
    special = [i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special] or [0]
    while count > 0:
        ids = [rng.choice([rng.choice(byte_ids), rng.choice(byte_ids), rng.randrange(size), rng.choice(special)])
               if rng.random() < 0.5 else rng.randrange(size) for _ in range(rng.randint(1, 60))]
        count -= len(ids)
        yield ids


def compare(tool, path, texts, rng):
    """All of it with special tokens, a tenth of it as plain text, and a tenth as many ids the other way."""
    tokenizer = Tokenizer.from_file(str(path))
    size = sum(map(len, texts))
    try:
        total, seconds = compare_encoding(tool, path, tokenizer, texts, False)
        plain, _ = compare_encoding(tool, path, tokenizer, texts[::10], True)
        decoded = compare_decoding(tool, path, tokenizer, list(random_ids(rng, tokenizer, total // 10)))
    except Difference as difference:
        print(f"{path.name}: {difference}", flush=True)
        return 1
    print(f"| {path.stem if path.stem != 'tokenizer' else path.parent.name} | {size / 1e6:.1f} | {total + plain} | 0 | {decoded} | 0 "
          f"| {size / seconds / 1e6:.1f} |", flush=True)
    return 0


def train_families(folder, texts, names):
    import families
    for name in names or families.NAMES:
        start = time.monotonic()
        path = pathlib.Path(folder) / f"{name}.json"
        path.write_text(json.dumps(families.build(name, texts, 8000, rules="nmt_nfkc"), ensure_ascii=False))
        print(f"trained {name} in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        yield path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("--tokenizer", action="append", type=pathlib.Path, default=[])
    parser.add_argument("--families", nargs="*", help="names of families.py; none: all")
    parser.add_argument("--text", action="append", type=pathlib.Path, default=[])
    parser.add_argument("--megabytes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    third = int(args.megabytes * 1e6 / 3)
    said, code = list(messages(third)), list(source(third))
    texts = list(chunks(said)) + list(chunks(code)) + [random_text(rng, 20000).encode() for _ in range(third // 20000)]
    texts += [random_text(rng, rng.randint(0, 200)).encode() for _ in range(2000)]
    texts += list(chunks(file.read_text(errors="replace") for file in args.text))
    broken = [bytes(rng.randrange(256) for _ in range(rng.randint(1, 40))) for _ in range(500)]
    texts += [data for data in broken if all(c == "\ufffd" or known(c) for c in data.decode("utf-8", "replace"))]
    texts += [unit * (1 << 16) for unit in (b"a", b" ", b"\n", "é".encode(), "日".encode(), b"ab ", b"1")]
    paths = args.tokenizer
    print("| tokenizer | MB | ids | differ | ids decoded | differ | ours MB/s |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        if args.families is not None:
            training = [t for text in said + code for t in text.splitlines()][::max(1, int(args.megabytes / 2))]
            paths = [*paths, *train_families(folder, training, args.families)]
        elif not paths:
            paths = [p for p in sorted(HERE.glob("*.json")) if not p.name.endswith(".cases.json")]
        return int(sum(compare(args.tool, path, texts, rng) for path in paths) > 0)


if __name__ == "__main__":
    sys.exit(main())
