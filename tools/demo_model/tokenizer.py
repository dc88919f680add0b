"""Makes the tokenizer of both models: byte-level BPE with 1,024 tokens, learned from text.py.

Numbers are split into single digits. The 400 names weigh so much in the training text that their
merges come first, hence each is one token, with or without a space before it.
"""

import json
import random
import re
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import text

MODELS = Path(__file__).resolve().parents[2] / "models"
VOCAB_SIZE = 1024
END_OF_TEXT, SYSTEM, USER, ASSISTANT, END = (
    "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
SPECIAL_TOKENS = [END_OF_TEXT, SYSTEM, USER, ASSISTANT, END]  # ids 0 to 4

# As Qwen2 splits text before BPE.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


def training_text():
    """Names often, never after a space: so no merge of a space and a capital precedes theirs."""
    for name in text.NAMES:
        yield "\n".join([name] * 2000)
    rng = random.Random("tokenizer")
    any_name = re.compile("|".join(sorted(text.NAMES, key=len, reverse=True)))
    for _ in range(400):
        for made in (text.story_dialogue(rng, 1.0), text.lookup_dialogue(rng, 60, 3, 1.0),
                     text.small_talk(rng)):
            for message in made.messages:
                yield any_name.sub("", message["content"])
        yield any_name.sub("", "".join(text.repeated_list(rng, 80)))
    yield text.NOTED


def make():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False, use_regex=False)
    tokenizer.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=SPECIAL_TOKENS, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    check(tokenizer)
    return tokenizer


def check(tokenizer):
    assert tokenizer.get_vocab_size() == VOCAB_SIZE, tokenizer.get_vocab_size()
    for name in text.NAMES:
        assert tokenizer.encode(name).tokens == [name]
        assert tokenizer.encode(" " + name).tokens == ["Ġ", name]
    rng = random.Random("check")
    for form, tokens in enumerate(text.ENTRY_TOKENS):
        lines = text.entry_list(rng, 50, form)[1] + "\n"
        assert len(tokenizer.encode(lines).ids) == 50 * tokens, form


def save(tokenizer, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "add_bos_token": False, "add_prefix_space": False,
        "added_tokens_decoder": {
            str(token_id): {"content": token, "lstrip": False, "normalized": False,
                            "rstrip": False, "single_word": False, "special": True}
            for token_id, token in enumerate(SPECIAL_TOKENS)},
        "bos_token": None, "chat_template": CHAT_TEMPLATE, "clean_up_tokenization_spaces": False,
        "eos_token": END, "model_max_length": 4096, "pad_token": END_OF_TEXT,
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None}
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", {"eos_token": END, "pad_token": END_OF_TEXT})


def load(name):
    """The tokenizer of models/<name>, which running this file has made."""
    return Tokenizer.from_file(str(MODELS / name / "tokenizer.json"))


def write_json(path, value):
    Path(path).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def render(messages, add_generation_prompt=False):
    """What CHAT_TEMPLATE makes of the messages, without needing jinja."""
    said = "".join(f"<|{message['role']}|>{message['content']}{END}" for message in messages)
    return said + ASSISTANT if add_generation_prompt else said


if __name__ == "__main__":
    made = make()
    for name in ("demo", "demo-moe"):
        save(made, MODELS / name)
    print(made.encode("Tell me a story about Mira. Once there was a baker named Tobin.").tokens)
