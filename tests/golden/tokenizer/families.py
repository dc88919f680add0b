"""Tokenizers of each published shape, trained on a text: the pipelines of the families' tokenizer.json, a small
vocabulary of our own.

build(name, texts, size) gives the JSON of one; NAMES are all.  Needs the Hugging Face library, and sentencepiece for
the Unigram ones (it compiles their table of replacements).
"""
import base64
import io
import json
import tempfile

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{{N}}{{1,3}}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK_V2_LETTERS = (
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼ"
    r"ℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+")
DEEPSEEK_V2 = [r"[\r\n]", DEEPSEEK_V2_LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", "[一-龥ࠀ-一가-퟿]+"]
DEEPSEEK_V3 = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
               r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
               r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]

# Replacements for the golden table: single characters, several to one, one to several, to nothing.
CHARSMAP_RULES = {"\u0001": "", "\u007f": "", "\u200b": "", "\ufeff": "", "\t": " ", "\n": " ", "\r": " ",
                  "\u00a0": " ", "\u2003": " ", "\u3000": " ", "\u0085": " ", "e\u0301": "é", "n\u0303": "ñ", "A\u030a": "Å",
                  "ﬁ": "fi", "½": "1/2", "²": "2", "Ⅷ": "VIII", "™": "TM", "…": "...", "ſ": "s", "\u212a": "K", "\u212b": "\u00c5", "\u1100\u1161": "가",
                  "\r\n": " ", "ß": "ss", "ｱ": "ア", "\u0344": "\u0308\u0301"} | {chr(0xff01 + i): chr(0x21 + i) for i in range(94)}

META = "▁"
SPECIALS = [AddedToken("<|begin|>", special=True), AddedToken("<|eot|>", special=True), AddedToken("<mask>", lstrip=True, special=True)]
ADDED = [AddedToken("word", single_word=True), AddedToken("<left>", lstrip=True, normalized=False),
         AddedToken("<right>", rstrip=True, normalized=False), AddedToken("tok\u00e9n", normalized=True),
         AddedToken("<|\u65e5\u672c|>", normalized=False), AddedToken("<|eot|><|eot|>", normalized=False)]


def add_tokens(tokenizer):
    tokenizer.add_special_tokens(SPECIALS)
    tokenizer.add_tokens(ADDED)


def state(part):
    return None if part is None else json.loads(part.__getstate__())


def template(begin, end=()):
    ids = {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in (*begin, *end)}
    single = [{"SpecialToken": {"id": name, "type_id": 0}} for name, _ in begin]
    single += [{"Sequence": {"id": "A", "type_id": 0}}] + [{"SpecialToken": {"id": name, "type_id": 0}} for name, _ in end]
    pair = single + [{"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": ids}


# ---- byte-level BPE

def byte_level(pre, normalizer=None):
    def make(texts, size):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        tokenizer.train_from_iterator(texts, trainer)
        add_tokens(tokenizer)
        return tokenizer
    return make


def split_byte_level(*patterns, normalizer=None, digits=False):
    steps = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    steps += [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    return byte_level(pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
                      normalizer)


def splits():
    return byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation(behavior="contiguous"),
        pre_tokenizers.Split(" ", "merged_with_next"), pre_tokenizers.Split(Regex(r"\n+|[\w]+\b"), "merged_with_previous"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))


def gpt2(texts, size):
    """With the older way to write merges: one string for a pair."""
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))(texts, size)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    root = json.loads(tokenizer.to_str())
    root["model"]["merges"] = [" ".join(pair) for pair in root["model"]["merges"]]
    return root


def ignoring_merges(make):
    """As Llama 3: a piece that is a token as a whole is that token, whatever the merges say."""
    def made(texts, size):
        tokenizer = make(texts, size)
        begin = tokenizer.token_to_id("<|begin|>")
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A <|begin|>:1 $B:1",
                                          special_tokens=[("<|begin|>", begin)])])
        root = json.loads(tokenizer.to_str())
        root["model"]["ignore_merges"] = True
        root["model"]["merges"] = root["model"]["merges"][:len(root["model"]["merges"]) * 3 // 4]
        return root
    return made


# ---- SentencePiece-style BPE

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LLAMA_DECODER = decoders.Sequence([decoders.Replace(META, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
GEMMA_DECODER = decoders.Sequence([decoders.Replace(META, " "), decoders.ByteFallback(), decoders.Fuse()])


def added(*tokens):
    return [{"id": None, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True} | options for content, options in tokens]


def sentencepiece_bpe(*, train_pre, normalizer=None, pre=None, decoder=LLAMA_DECODER, more=(), bos=True, pairs=False,
                      byte_tokens=tuple(BYTES), **options):
    def make(texts, size):
        trained = Tokenizer(models.BPE())
        trained.normalizer = normalizers.Replace(" ", META)
        if train_pre:
            trained.pre_tokenizer = train_pre
        trained.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, limit_alphabet=size // 4, show_progress=False))
        model = json.loads(trained.to_str())["model"]
        specials = ["<unk>", "<s>", "</s>"]
        pieces = specials + list(byte_tokens) + sorted(model["vocab"], key=model["vocab"].get)
        vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
        tokens = added(*({s: (s, {}) for s in specials} | {s: (s, o) for s, o in more}).values())
        for token in tokens:
            token["id"] = vocab.get(token["content"])
        free = len(vocab)
        for token in tokens:
            if token["id"] is None:
                token["id"], free = free, free + 1
        merges = model["merges"] if pairs else [" ".join(pair) for pair in model["merges"]]
        return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": state(normalizer),
                "pre_tokenizer": state(pre), "post_processor": template([("<s>", 1)]) if bos else None, "decoder": state(decoder),
                "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                          "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False}
                | options | {"vocab": vocab, "merges": merges}}
    return make


WORDS = pre_tokenizers.Split(META, "merged_with_next")
LEGACY = normalizers.Sequence([normalizers.Prepend(META), normalizers.Replace(" ", META)])
MARKS = [("<|eot|>", {}), ("<|begin|>", {}), ("<mask>", {"lstrip": True}), ("<left>", {"lstrip": True, "special": False}),
         ("<right>", {"rstrip": True, "special": False}), ("word", {"single_word": True, "special": False, "normalized": True}),
         ("<|日本|>", {}), ("tokén", {"normalized": True, "special": False})]
PHI3 = [(content, {"rstrip": True}) for content in ("</s>", "<|endoftext|>", "<|assistant|>", "<|eot|>", "<|user|>", "<right>")]
GEMMA = [(c, {"special": False}) for c in ["\n" * n for n in range(2, 12)] + [META * n for n in range(2, 12)] + ["\t\t", "<table>", "</h1>"]]


# ---- Unigram

def varint(data):
    value, shift = 0, 0
    while True:
        byte = data.read(1)[0]
        value, shift = value | (byte & 127) << shift, shift + 7
        if byte < 128:
            return value


def field(message, wanted):
    """The first length-delimited field of that number of a protobuf message."""
    data = io.BytesIO(message)
    while data.tell() < len(message):
        key = varint(data)
        if key & 7 == 0:
            varint(data)
        elif key & 7 == 5:
            data.read(4)
        else:
            value = data.read(varint(data))
            if key >> 3 == wanted:
                return value
    raise KeyError(wanted)


def charsmap(rules):
    """sentencepiece compiles the table into the models it trains; field 3 is its normalizer, field 2 of that the table."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"normalization_rule_name": rules}
        if isinstance(rules, dict):
            with open(f"{folder}/rules.tsv", "w") as file:
                for source, target in rules.items():
                    file.write(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n")
            options = {"normalization_rule_tsv": f"{folder}/rules.tsv"}
        model = io.BytesIO()
        sentences = [f"the baton {i} is handed {i * i} times" for i in range(200)]
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(sentences), model_writer=model, vocab_size=50,
                                                 hard_vocab_limit=False, minloglevel=2, **options)
    return base64.b64encode(field(field(model.getvalue(), 3), 2)).decode()


def unigram(*, normalizer, pre, decoder, begin=(), end=(), byte_tokens=(), more=MARKS):
    def make(texts, size, rules):
        normal = normalizer(rules)
        trained = Tokenizer(models.Unigram())
        trained.normalizer = from_state(normal)
        trained.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
        trained.train_from_iterator(texts, trainers.UnigramTrainer(vocab_size=size, unk_token="<unk>", show_progress=False,
                                                                   special_tokens=["<unk>"]))
        pieces = [p for p in json.loads(trained.to_str())["model"]["vocab"] if p[0] not in ("<unk>", "<s>", "</s>")]
        vocab = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]] + [[b, 0.0] for b in byte_tokens] + pieces
        known = {piece: i for i, (piece, _) in enumerate(vocab)}
        tokens = added(*[(s, {}) for s in ("<s>", "<pad>", "</s>", "<unk>")], *more)
        free = len(vocab)
        for token in tokens:
            token["id"] = known.get(token["content"], free)
            free += token["id"] == free
        post = template([(t, known[t]) for t in begin], [(t, known[t]) for t in end])
        return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": normal,
                "pre_tokenizer": state(pre), "post_processor": post, "decoder": state(decoder),
                "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": bool(byte_tokens)}}
    return make


def from_state(normalizer):
    root = json.loads(Tokenizer(models.BPE()).to_str()) | {"normalizer": normalizer}
    return Tokenizer.from_str(json.dumps(root)).normalizer


def sequence(*steps):
    return {"type": "Sequence", "normalizers": list(steps)}


def precompiled(rules):
    return {"type": "Precompiled", "precompiled_charsmap": charsmap(rules)}


STRIP_RIGHT = {"type": "Strip", "strip_left": False, "strip_right": True}
JOIN_SPACES = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": META}

BPE = {
    "gpt2": gpt2,
    "gpt2_prefix_space": byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "llama3": ignoring_merges(split_byte_level(LLAMA3)),
    "qwen2": split_byte_level(QWEN2, normalizer=normalizers.NFC()),
    "splits": splits(),
    "tekken": ignoring_merges(split_byte_level(TEKKEN)),
    "o200k": split_byte_level(O200K),
    "deepseek_v2": split_byte_level(*DEEPSEEK_V2, digits=True),
    "deepseek_v3": split_byte_level(*DEEPSEEK_V3),
    "llama2": sentencepiece_bpe(train_pre=WORDS, normalizer=LEGACY, more=MARKS),
    "mistral_v3": sentencepiece_bpe(train_pre=WORDS, pre=pre_tokenizers.Metaspace(META, "first", False), more=MARKS, pairs=True),
    "phi3": sentencepiece_bpe(train_pre=WORDS, normalizer=LEGACY, more=PHI3, bos=False),
    "gemma": sentencepiece_bpe(train_pre=None, normalizer=normalizers.Replace(" ", META), pre=pre_tokenizers.Split(" ", "merged_with_previous"),
                               decoder=GEMMA_DECODER, more=GEMMA, pairs=True),
    "words": sentencepiece_bpe(  # what no family above uses: unknown tokens one by one, every other normalizer and pre-tokenizer
        train_pre=pre_tokenizers.Whitespace(), byte_tokens=BYTES[:160], fuse_unk=False, more=MARKS,
        normalizer=normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip(),
                                         normalizers.Replace(Regex(r"(\d)(?=\d)|x+"), "<n>")]),
        pre=pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("isolated"),
                                     pre_tokenizers.Digits(individual_digits=False)]),
        decoder=decoders.Sequence([decoders.Strip("e", 1, 0), decoders.ByteFallback(), decoders.Replace("th", "TH")])),
}
UNIGRAM = {
    "t5": unigram(normalizer=lambda rules: sequence(precompiled(rules), STRIP_RIGHT, JOIN_SPACES), pre=pre_tokenizers.Metaspace(),
                  decoder=decoders.Metaspace(), end=["</s>"]),
    "xlm_roberta": unigram(normalizer=precompiled, decoder=decoders.Metaspace(), begin=["<s>"], end=["</s>"],
                           pre=pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])),
    "unigram_bytes": unigram(normalizer=lambda rules: sequence({"type": "NFKC"}, STRIP_RIGHT, JOIN_SPACES), byte_tokens=BYTES,
                             pre=pre_tokenizers.Metaspace(META, "first", False), begin=["<s>"],
                             decoder=decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(META, "first", False)])),
}
NAMES = [*BPE, *UNIGRAM]


def build(name, texts, size, rules=None):
    """rules: of the table of replacements; a name that sentencepiece knows, or a dictionary."""
    made = BPE[name](texts, size) if name in BPE else UNIGRAM[name](texts, size, rules or CHARSMAP_RULES)
    return made if isinstance(made, dict) else json.loads(made.to_str())
