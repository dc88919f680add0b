#!/usr/bin/env python3
"""Makes patterns.json: expressions and behaviours of Split, and how the tokenizers library cuts texts by them.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers
    /tmp/venv/bin/python tests/golden/tokenizer/patterns.py

Every piece that the library makes is a token of the vocabulary, and "ignore_merges" makes a piece that is a token that token:
so the ids tell the cuts.
"""
import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

HERE = pathlib.Path(__file__).parent
TEXTS = ["Hello, World_9 it's 12345", " a\tb\nc\r\n\u00a0d\u2003e\u180ef\x0bg\x08h\x1ci", "\u00e9\u0301a\u0300 \u0661\u0662 \u2167\u24b6\U0001f130\u203f_x-y",
         "aaa{2}aab[b]^c]d\\e-f.g*h+i?j|k(l)m$n", "\u65e5\u672c \u304b\u3099 \U0001f600!?\u3000\u00bd\u00ac", "ABCdefABC\n\nx\n", "0f 9G fF--__ '"]
PATTERNS = [
    r"\s+", r"\S+", r"\w+", r"\W+", r"\d", r"\D+", r"\h+", r"\v", r"\b", r"\B", r"[\s]+", r"[^\s]+", r"[\S]+", r"[\w-]+", r"[^\w]+", r"[\d_]+", r"[\D]+", r"[\h]+", r"[\b]",
    r"\p{L}+", r"\P{L}+", r"[\p{L}\p{N}]+", r"[^\p{L}]+", r"\p{Lu}\p{Ll}*", r"\x41", r"\x{e9}", r"\u0041+", r"\u65e5", r"[\x61-\x63]+", r"[\u0061-\u0063]+", r"[\x{3040}-\x{309f}]+",
    r"\r\n|\n|\t", r"[\r\n\t\f\a\e]+", r"\.|\*|\+|\?|\||\(|\)|\$|\^|\[|\]|\{|\}|\\|\-|\ ", r"[\.\*\+\?\|\(\)\$\^\[\]\{\}\\\-\ ]+", r"\AHello", r"\z", r"\Z", r"x\n\Z", r"^.", r"c$", r".",
    r"a{2}", r"a{1,2}", r"a{2,}", r"a{,2}", r"a{0,2}", r"a{1,2}?", r"a+?", r"a*+b", r"a++", r"(?:ab|a)+", r"(a|b)+", r"(?=b)", r"a(?!a)", r"(?<=a)b", r"(?<!a)b", r"(?>a+)b", r"(?i:abc)+", r"(?i)abc", r"(?i)ABC(?-i)d", r"(?i:a(?-i:b))",
    r"[]a]", r"[^]a]+", r"[a^]+", r"[a-]+", r"[.]", r"[$(]", r"a|", r"", r"b*", r"$", r"(?=\s)", r"\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]
BEHAVIORS = [("isolated", "Isolated"), ("removed", "Removed"), ("merged_with_previous", "MergedWithPrevious"), ("merged_with_next", "MergedWithNext"), ("contiguous", "Contiguous")]
# What may stand before a token of which "single_word" is asked: letters, marks, numbers, connectors, and what is near to them.
BEFORE = [chr(c) for c in [*b"a9_ -.", 0xb2, 0xbd, 0xe9, 0x1c5, 0x2b0, 0x301, 0x488, 0x903, 0x200b, 0x200c, 0x200d, 0x200e, 0x203f, 0x2167, 0x24b5, 0x24b6,
                           0x24e9, 0x24ea, 0x65e5, 0x1f12f, 0x1f130, 0x1f149, 0x1f14a, 0x1f14f, 0x1f150, 0x1f169, 0x1f16a, 0x1f16f, 0x1f170, 0x1f189, 0x1f18a]]


def single_words(vocab):
    tokenizer = Tokenizer(models.BPE(vocab, [], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_special_tokens([AddedToken("<w>", single_word=True, special=True)])
    wanted = tokenizer.token_to_id("<w>")
    return [[wanted in tokenizer.encode(char + "<w>").ids, wanted in tokenizer.encode("<w>" + char).ids] for char in BEFORE]


def pieces(steps, text):
    pre = pre_tokenizers.Sequence(steps + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return [piece for piece, _ in pre.pre_tokenize_str(text)]


def cases():
    for pattern in PATTERNS:
        yield {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}, pre_tokenizers.Split(Regex(pattern), "isolated")
    for name, written in BEHAVIORS:
        for invert in (False, True):
            for pattern in (r"\s", r"\w+", r"a*"):
                yield ({"type": "Split", "pattern": {"Regex": pattern}, "behavior": written, "invert": invert},
                       pre_tokenizers.Split(Regex(pattern), name, invert))
            yield {"type": "Split", "pattern": {"String": "a"}, "behavior": written, "invert": invert}, pre_tokenizers.Split("a", name, invert)
            yield {"type": "Split", "pattern": {"String": ".*"}, "behavior": written, "invert": invert}, pre_tokenizers.Split(".*", name, invert)
        yield {"type": "Punctuation", "behavior": written}, pre_tokenizers.Punctuation(name)
    yield {"type": "Digits", "individual_digits": True}, pre_tokenizers.Digits(True)
    yield {"type": "Digits", "individual_digits": False}, pre_tokenizers.Digits(False)


def main():
    made = []
    vocab = {}
    for step, built in cases():
        cut = [pieces([built], text) for text in TEXTS]
        made.append((step, cut))
        for piece in (piece for one in cut for piece in one):
            vocab.setdefault(piece, len(vocab))
    for char in pre_tokenizers.ByteLevel.alphabet():
        vocab.setdefault(char, len(vocab))
    lines = [json.dumps({"step": step, "ids": [[vocab[piece] for piece in one] for one in cut]}, ensure_ascii=False, separators=(",", ":"))
             for step, cut in made]
    out = {"texts": TEXTS, "vocab": vocab, "words": {"chars": BEFORE, "taken": single_words(vocab)}}
    head = json.dumps(out, ensure_ascii=False, separators=(",", ":"))[:-1]
    (HERE / "patterns.json").write_text(head + ',\n"cases":[\n' + ",\n".join(lines) + "\n]}\n")
    print(len(made), "cases,", len(vocab), "tokens")


if __name__ == "__main__":
    main()
