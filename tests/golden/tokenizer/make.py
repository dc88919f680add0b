#!/usr/bin/env python3
"""Makes the golden files of this folder: small byte-level BPE tokenizers and the ids that the Hugging
Face library gives for tricky texts.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers==0.23.3
    /tmp/venv/bin/python tests/golden/tokenizer/make.py

Everything is made from the sentences below, so the files come out the same each time.
"""
import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers

HERE = pathlib.Path(__file__).parent

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")

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
    "caf\u00e9 cafe\u0301 tok\u00e9n toke\u0301n", "\u65e5\u672c token <|\u65e5\u672c|>", "ß ẞ ſt ﬁ İ ı K Å",
    "\u0315\u0300\u05ae\u0301\u0062 a\u0315\u0300\u05ae\u0301b a\u0316\u0301\u0316\u0301", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𠀀𠀁 \U0010ffff \ue000",
    "\uc73c\u11a7\u1187 \u1100\u1161\u11a7\u11a8", "\x00\x01\x02\x7f\x80\x9f", "mixed日本English中文1234русский",
]

# Bytes that are no UTF-8: the library gets what bytes.decode("utf-8", "replace") makes of them.
BROKEN = [
    b"\xff", b"a\x80b", b"\xe2\x82", b"\xe2\x82x", b"\xf0\x9f\x98", b"\xf0\x9f\x98\xf0\x9f\x98\x80", b"\xc0\xaf",
    b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"caf\xe9 au lait", b"\xe0\x80\x80", b"ok \xc3", b"\xc3\xa9\xc3",
    b"\xf8\x88\x80\x80\x80 <|eot|>",
]


def train(pre_tokenizer, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def add_tokens(tokenizer):
    tokenizer.add_special_tokens(["<|begin|>", "<|eot|>", AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.add_tokens([
        AddedToken("word", single_word=True), AddedToken("<left>", lstrip=True, normalized=False),
        AddedToken("<right>", rstrip=True, normalized=False), AddedToken("tok\u00e9n", normalized=True),
        AddedToken("<|\u65e5\u672c|>", normalized=False), AddedToken("<|eot|><|eot|>", normalized=False),
    ])


def gpt2():
    tokenizer = train(pre_tokenizers.ByteLevel(add_prefix_space=False))
    add_tokens(tokenizer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def gpt2_prefix_space():
    tokenizer = train(pre_tokenizers.ByteLevel(add_prefix_space=True))
    add_tokens(tokenizer)
    return tokenizer


def llama3():
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer = train(pre)
    add_tokens(tokenizer)
    begin = tokenizer.token_to_id("<|begin|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A <|begin|>:1 $B:1",
                                      special_tokens=[("<|begin|>", begin)])])
    return tokenizer


def qwen2():
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer = train(pre, normalizers.NFC())
    add_tokens(tokenizer)
    return tokenizer


def splits():
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation(behavior="contiguous"),
        pre_tokenizers.Split(" ", "merged_with_next"), pre_tokenizers.Split(Regex(r"\n+|[\w]+\b"), "merged_with_previous"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer = train(pre)
    add_tokens(tokenizer)
    return tokenizer


def old_merges(text):
    """The older way to write merges: one string for a pair."""
    root = json.loads(text)
    root["model"]["merges"] = [" ".join(pair) if isinstance(pair, list) else pair for pair in root["model"]["merges"]]
    return json.dumps(root, ensure_ascii=False)


def ignore_merges(text):
    """As Llama 3: a piece that is a token as a whole is that token, whatever the merges say."""
    root = json.loads(text)
    root["model"]["ignore_merges"] = True
    root["model"]["merges"] = root["model"]["merges"][:300]
    return json.dumps(root, ensure_ascii=False)


KINDS = {"gpt2": (gpt2, old_merges), "gpt2_prefix_space": (gpt2_prefix_space, str), "llama3": (llama3, ignore_merges),
         "qwen2": (qwen2, str), "splits": (splits, str)}


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


def compact(text):
    return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")) + "\n"


def main():
    for name, (make, rewrite) in KINDS.items():
        text = compact(rewrite(make().to_str()))
        (HERE / f"{name}.json").write_text(text)
        tokenizer = Tokenizer.from_str(text)
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases(tokenizer))
        (HERE / f"{name}.cases.json").write_text('{"cases":[\n' + lines + "\n]}\n")
        print(name, tokenizer.get_vocab_size())


if __name__ == "__main__":
    main()
