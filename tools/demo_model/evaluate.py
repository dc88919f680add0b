"""Measures a model folder with transformers: fresh look-ups by length, a second question, stories.

    python evaluate.py --model models/demo

A look-up is right when the greedy answer is exactly the expected sentence and its end token.
"""

import argparse
import random

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import text

PLAN = ((1500, 500), (100, 200), (300, 200), (700, 100), (1000, 100), (2000, 100))


class Judge:
    def __init__(self, folder):
        self.tokens = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.end = self.tokens.eos_token_id

    def ids(self, messages):
        said = self.tokens.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self.tokens(said, add_special_tokens=False).input_ids

    @torch.no_grad()
    def replies(self, messages, answer):
        """(is the greedy reply this answer and its end, digits right, digits asked).

        One pass over prompt and answer: the greedy reply is the answer exactly when every token of
        the answer is the most likely one after those before it.
        """
        prompt = self.ids(messages)
        reply = self.tokens(answer, add_special_tokens=False).input_ids + [self.end]
        logits = self.model(torch.tensor([prompt + reply]), logits_to_keep=len(reply) + 1).logits[0]
        said = logits[:-1].argmax(-1).tolist()
        digits = [at for at, token in enumerate(reply) if self.tokens.decode([token]).isdigit()]
        return said == reply, sum(said[at] == reply[at] for at in digits), len(digits)

    @torch.no_grad()
    def generate(self, messages, limit, **how):
        prompt = torch.tensor([self.ids(messages)])
        out = self.model.generate(prompt, max_new_tokens=limit, **how)[0, prompt.shape[1]:].tolist()
        return self.tokens.decode(out, skip_special_tokens=True), len(out), out[-1] == self.end


def judge_lookups(judge, label, cases):
    exact = digits = asked = 0
    for messages, answer in cases:
        right, good, count = judge.replies(messages, answer)
        exact, digits, asked = exact + right, digits + good, asked + count
    print(f"{label}: {exact} of {len(cases)} exact ({exact / len(cases):.2%}), "
          f"digits {digits / asked:.2%}", flush=True)
    return exact / len(cases)


def lookups(count, tokens, first_seed):
    made = [text.lookup(f"evaluate {seed}", tokens)
            for seed in range(first_seed, first_seed + count)]
    return [(one.messages, one.answer) for one in made]


def second_questions(count, tokens):
    """The last question of a dialogue of three about one list."""
    rng, cases = random.Random("evaluate turns"), []
    for _ in range(count):
        talk = text.lookup_dialogue(rng, tokens, 3)
        cases.append((talk.messages[:-1], talk.messages[-1]["content"]))
    return cases


def judge_stories(judge, count, show):
    rng = random.Random("evaluate stories")
    lengths, ended, about, different = [], 0, 0, set()
    for index in range(count):
        name = rng.choice(text.NAMES)
        asked = rng.choice(text.STORY_REQUESTS).format(name=name)
        torch.manual_seed(index)
        said, length, end = judge.generate([{"role": "user", "content": asked}], 256,
                                           do_sample=True, temperature=0.8, top_k=0, top_p=1.0)
        lengths.append(length)
        ended, about = ended + end, about + (said.count(name) >= 2)
        different.add(said.replace(name, "?"))
        if index < show:
            print(f"  {asked} -> {said}")
    print(f"stories at temperature 0.8: {count}, ended {ended}, about the name {about}, "
          f"different {len(different)}, tokens {min(lengths)} to {max(lengths)}")


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", required=True)
    options.add_argument("--seed", type=int, default=0, help="the first seed of the look-ups")
    options.add_argument("--stories", type=int, default=40)
    given = options.parse_args()
    torch.set_num_threads(1)
    judge = Judge(given.model)
    for tokens, count in PLAN:
        judge_lookups(judge, f"look-ups at {tokens} tokens", lookups(count, tokens, given.seed))
    judge_lookups(judge, "third question of a dialogue at 1000 tokens", second_questions(100, 1000))
    judge_stories(judge, given.stories, show=4)


if __name__ == "__main__":
    main()
