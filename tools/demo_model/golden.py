"""Writes the golden files of a model folder with transformers (float32 on the bf16 weights).

    python golden.py --model models/demo --out tests/golden/demo

logits.json:  prompts of 5 to 1,500 tokens: ids, the logits after the last one, 32 greedy tokens
chat.json:    conversations, the text that the chat template makes of them, and its ids
text.json:    texts and their ids: what the tokenizer must do with spaces, digits, UTF-8, names
lookups.json: 200 fresh look-ups at 1,500 tokens; text.lookup(seed, tokens) makes the prompt
"""

import argparse
import hashlib
import json
import random
from pathlib import Path

import torch

import text
from evaluate import Judge

GREEDY_TOKENS = 32
LOOKUPS, LOOKUP_TOKENS = 200, 1500

TEXTS = (
    "", " ", "\n", "Mira has 482.\nTobin has 117.\n", "Which number belongs to Tobin?",
    " Mira  Mira   Mira", "tabs\tand\ttabs", "line one\r\nline two\r\n\r\n  indented",
    "trailing spaces   ", "\n\n\n", " \n \n x", "I'm sure you'll say it's THEIR'S, don't you",
    "1234567890", "3.14159 = pi; 2^10=1024", "Grüße aus Zürich", "naïve café e\u0301",
    "日本語のテキスト", "Привет, мир",
    "emoji \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u00a0no-break\u2003em space", "\u0661\u0662\u0663 digits \u00bd \u00b2 \u2167",
    "under_score snake_case __init__",
    "!!!???...\n\n...", "(brackets) [and] {braces} <|not a token|>", "a\u0001b\u0007c\u007f",
    "<|user|>Hello<|end|><|assistant|>", "<|endoftext|><|end|>x<|system|> y", "MiraTobinMira",
    "Mirabin Toston", "\"Do you know Mimo?\" asked the cat.", "हिन्दी भाषा",
    "ﬁ ligature \u212b A\u030a",
)


def conversations():
    rng = random.Random("golden chat")
    plain = [{"role": "user", "content": "Hello"}]
    system = [{"role": "system", "content": "You are a helpful assistant."}, *plain]
    spaces = [{"role": "user", "content": "  leading and trailing spaces \n\n"}]
    foreign = [{"role": "user", "content": "Grüße, 世界! {{ not a template }} \\ \" '"}]
    empty = [{"role": "user", "content": ""}]
    turns = text.lookup_dialogue(rng, 120, 3, 1.0).messages[:-1]
    return [plain, system, spaces, foreign, empty, turns,
            text.story_dialogue(rng).messages[:1], text.lookup("golden", 200).messages]


def prompts(judge):
    """[(label, ids)] of mixed lengths."""
    chat = [(f"look-up at {tokens}", judge.ids(text.lookup("golden", tokens).messages))
            for tokens in (100, 500, 1500)]
    story = [{"role": "user", "content": "Tell me a story about Mira."}]
    plain = "Mira has 482.\nTobin has 117.\nKala has 900.\n" + text.AGAIN + "\nTobin has"
    return [("five tokens", judge.tokens("Once there was a baker").input_ids[:5]),
            ("story", judge.ids(story)), ("plain list", judge.tokens(plain).input_ids), *chat]


@torch.no_grad()
def logits_case(judge, label, ids):
    logits = judge.model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1]
    greedy = list(ids)
    for _ in range(GREEDY_TOKENS):  # past the end token too: equal is equal
        last = judge.model(torch.tensor([greedy]), logits_to_keep=1).logits[0, -1]
        greedy.append(int(last.argmax()))
    return {"label": label, "ids": ids, "greedy": greedy[len(ids):],
            "logits": [float(f"{value:.7g}") for value in logits.tolist()]}


def chat_cases(judge):
    cases = []
    for messages in conversations():
        for prompt in (True, False):
            said = judge.tokens.apply_chat_template(messages, add_generation_prompt=prompt,
                                                    tokenize=False)
            cases.append({"messages": messages, "add_generation_prompt": prompt, "text": said,
                          "ids": judge.tokens(said, add_special_tokens=False).input_ids})
    return cases


def text_cases(judge):
    cases = []
    for sample in TEXTS:
        ids = judge.tokens(sample, add_special_tokens=False).input_ids
        assert judge.tokens.decode(ids, clean_up_tokenization_spaces=False) == sample, sample
        cases.append({"text": sample, "ids": ids})
    return cases


def lookup_cases(judge):
    cases = []
    for index in range(LOOKUPS):
        seed = f"golden {index}"
        asked = text.lookup(seed, LOOKUP_TOKENS)
        digest = hashlib.sha256(asked.messages[-1]["content"].encode()).hexdigest()[:16]
        cases.append({"seed": seed, "tokens": LOOKUP_TOKENS, "answer": asked.answer,
                      "prompt_tokens": len(judge.ids(asked.messages)), "prompt_sha256": digest})
    return cases


def write(path, cases):
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", required=True)
    options.add_argument("--out", required=True)
    given = options.parse_args()
    torch.set_num_threads(1)
    judge, out = Judge(given.model), Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    write(out / "chat.json", chat_cases(judge))
    write(out / "text.json", text_cases(judge))
    write(out / "lookups.json", lookup_cases(judge))
    write(out / "logits.json", [logits_case(judge, *prompt) for prompt in prompts(judge)])


if __name__ == "__main__":
    main()
