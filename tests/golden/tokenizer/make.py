#!/usr/bin/env python3
"""Makes the golden files of this folder: small byte-level BPE tokenizers and the ids that the Hugging
Face library gives for tricky texts.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers==0.23.3
    /tmp/venv/bin/python tests/golden/tokenizer/make.py

Everything is made from the sentences below, so the files come out the same each time.
"""
import json
import pathlib
import random

from tokenizers import Tokenizer

import families

HERE = pathlib.Path(__file__).parent
SIZE = 700

CORPUS = [
    "The baton is handed from the first runner to the second, and the second runs on.",
    "Anna's number is 4711; Bertil's number is 1234, and they're sure that it'll stay so.",
    "    return value if value is not None else default\n\n\tfor (int i = 0; i < n; i++) {\n\t\tsum += a[i];\n\t}\n",
    "Žluťoučký kůň úpěl ďábelské ódy. Größe, façade, naïve, smörgåsbord, Ærøskøbing.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "我能吞下玻璃而不伤身体。私はガラスを食べられます。それは私を傷つけません。나는 유리를 먹을 수 있어요.",
    "אני יכול לאכול זכוכית. أنا قادر على أكل الزجاج. मैं काँच खा सकता हूँ।",
    "emoji: 😀😃😄 👨‍👩‍👧‍👦 🇸🇪 👍🏽 ☕️",
    "1 22 333 4444 55555 666666 3.14159 1e-9 0x7fff 2026-11-22",
] * 20

TEXTS = [
    "", " ", "  ", "\n", "\r\n\r\n", "a", "hello world", "Hello, World!  Two  spaces\tand\ttabs ",
    "it's IT'S they'LL we'Ve I'd can't 'tis \u017f 'ſ",
    "1234567890 12 123 1234 ١٢٣ ४५६ Ⅷ ½ ²",
    "    indented\n        more\n\n\n   \n end   ", "trailing spaces      ", "\t\t\t\n \n  \n",
    "日本語のテキスト、中文文本，한국어 텍스트.", "Ünïcödé é e\u0301 A\u030a \u1100\u1161\u11a8 ñ n\u0303 \u0344",
    "👨‍👩‍👧‍👦🇸🇪👍🏽☕️ text😀text 😀 😀😀", "עברית العربية हिन्दी ไทย",
    "a\u00a0b\u2003c\u180ed\u200be\ufefff\u0085g\u2028h", "x" * 300, "ab" * 150, " " * 100 + "x", "\n" * 50,
    "!?!?...---===***///\\\\\\###$$$%%%", "https://example.org/a/b?c=d&e=f#g  foo_bar-baz.qux@example.com",
    "<|begin|>system<|eot|>\n\nuser text<|eot|>", "in<|eot|>the<|eot|><|eot|>middle", "<|eot", "<|eot|", "|eot|>",
    "before  <mask>  after", "word sword words <|word|> word", "the thing theword word.", "  <left>x <right>   y",
    "caf\u00e9 cafe\u0301 tok\u00e9n toke\u0301n", "\u65e5\u672c token <|\u65e5\u672c|>", "<right>   <right>\n<left> x", "<table> </h1>\t\t\n\n\n   </s>  a<s> b", "  \u2581a \u2581 b", "<0x41><0x0A> <unk> x", "xxxx 12345 the e\u0301E\u0301", "\uff21\uff42\uff1a\uff11 \ufb01ne \u00bd \u2122\u2026", "\u1680\u3000 a \u2028", "\u212a \u2126 \u212b \u1f7d", "ß ẞ ſt ﬁ İ ı K Å",
    "\u0315\u0300\u05ae\u0301\u0062 a\u0315\u0300\u05ae\u0301b a\u0316\u0301\u0316\u0301", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𠀀𠀁 \U0010ffff \ue000",
    "\uc73c\u11a7\u1187 \u1100\u1161\u11a7\u11a8", "\x00\x01\x02\x7f\x80\x9f", "mixed日本English中文1234русский",
]

# Bytes that are no UTF-8: the library gets what bytes.decode("utf-8", "replace") makes of them.
BROKEN = [
    b"\xff", b"a\x80b", b"\xe2\x82", b"\xe2\x82x", b"\xf0\x9f\x98", b"\xf0\x9f\x98\xf0\x9f\x98\x80", b"\xc0\xaf",
    b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"caf\xe9 au lait", b"\xe0\x80\x80", b"ok \xc3", b"\xc3\xa9\xc3",
    b"\xf8\x88\x80\x80\x80 <|eot|>",
]


def cases(tokenizer):
    result = []
    for raw in [t.encode() for t in TEXTS] + BROKEN:
        text = raw.decode("utf-8", "replace")
        tokenizer.encode_special_tokens = False
        full = tokenizer.encode(text, add_special_tokens=True).ids
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        result.append({"hex": raw.hex(), "full": full, "plain": plain,
                       "decoded": tokenizer.decode(full, skip_special_tokens=False),
                       "decoded_skip": tokenizer.decode(full, skip_special_tokens=True)})
    return result


def random_ids(tokenizer, root):
    """Lists of ids as no text gives them: of all tokens, and of bytes above all, where there are tokens for them."""
    rng = random.Random(len(root["model"]["vocab"]))
    size = tokenizer.get_vocab_size()
    byte_ids = [i for i in range(size) if (tokenizer.id_to_token(i) or "").startswith("<0x")] or list(range(min(size, 256)))
    special = [i for i in range(size) if tokenizer.id_to_token(i) in ("<s>", "</s>", "<|eot|>")]
    for n in range(60):
        kinds = [range(size)] if n % 3 == 0 else [byte_ids, byte_ids, range(size), special or range(size)]
        ids = [rng.choice(rng.choice(kinds)) for _ in range(rng.randint(1, 14))]
        if n % 3 == 2:  # characters in bytes, whole and broken
            for part in rng.sample(["é", "日", "😀", "▁", " ", "x"], 3):
                ids += [tokenizer.token_to_id(f"<0x{b:02X}>") or 0 for b in part.encode()][:rng.choice([4, 4, 4, 1, 2])]
            ids = ids[rng.randint(0, len(ids) - 1):] if n % 2 else ids
        yield ids


def decodings(tokenizer, root):
    for ids in random_ids(tokenizer, root):
        yield {"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False),
               "decoded_skip": tokenizer.decode(ids, skip_special_tokens=True)}


def lines(entries):
    return ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)


def main():
    for name in families.NAMES:
        root = families.build(name, CORPUS, SIZE)
        text = json.dumps(root, ensure_ascii=False, separators=(",", ":")) + "\n"
        (HERE / f"{name}.json").write_text(text)
        tokenizer = Tokenizer.from_str(text)
        (HERE / f"{name}.cases.json").write_text('{"cases":[\n' + lines(cases(tokenizer)) + '\n],"decodings":[\n' +
                                                 lines(decodings(tokenizer, root)) + "\n]}\n")
        print(name, tokenizer.get_vocab_size())


if __name__ == "__main__":
    main()
