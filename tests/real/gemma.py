#!/usr/bin/env python3
"""The real Gemma 3 270M says what transformers says, and a cluster says to the bit what one process says.

    pip install torch transformers safetensors
    BATON_BUILD=build python3 tests/real/gemma.py DIR [--prompts N] [--skip-cluster]

DIR is the model as a Hugging Face directory. Its prompts go in as token ids: texts of several kinds and lengths, some longer
than the model's windows. For each, Baton's 48 greedy tokens are laid before transformers in one pass. A prompt is equal when
each of them is transformers' likeliest there, or exactly as likely (its bfloat16 logits are multiples of 1/8 or 1/16 and often
tie; which it takes then is the order of its vocabulary). Else the first other place counts, with the gap between the two.
How many are equal where ties count too is printed beside, and is no limit: it is as many as two of transformers' own ways
to compute the same text have in common (docs/decisions/bf16-like-the-reference.md).

  f32 (a copy of DIR with the weights widened, on both sides)  every difference at a gap below 0.001
  bf16                                                         at least 80 of 100 prompts equal, every difference below 0.1
"""
import argparse
import json
import pathlib
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
from cluster import Cluster, essence, solo  # noqa: E402

TOKENS = 48
SOLO = ["--kv-bytes", "512MiB", "--concurrency", "16"]
LIMITS = {"float32": (1.0, 1e-3), "bfloat16": (0.8, 0.1)}  # prompts equal at least; gap of a difference at most

OPENINGS = [
    "The capital of France is", "Once upon a time there was a", "def fibonacci(n):\n", "Water boils at",
    "In 1969, the first man", "Liebe Freunde, heute", "El perro grande", "The three laws of thermodynamics are",
    "Q: What is 17 times 23?\nA:", "import numpy as np\n\ndef mean(values):\n    ", "A recipe for bread: take 500 g of",
    "SELECT name, age FROM users WHERE", "The quick brown fox", "Dear Sir or Madam,\n\nI am writing to",
    "Les trois mousquetaires sont", "日本の首都は", "Москва — это", "To be, or not to be:", "<html>\n<head>\n<title>",
    "1, 1, 2, 3, 5, 8, 13,",
]
KINDS = ["{}", "Please continue the following text.\n\n{}", "{} {}", "- first\n- second\n- {}"]


def texts(count):
    """Openings in several settings; each twentieth after a long piece of this project's own pages."""
    pages = (ROOT / "docs" / "ARCHITECTURE.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    out = []
    for i in range(count):
        opening = OPENINGS[i % len(OPENINGS)]
        text = KINDS[i // len(OPENINGS) % len(KINDS)].replace("{}", opening)
        if i >= len(OPENINGS) * len(KINDS):
            text = f"Number {i}. {text}"
        if i % 20 == 9:
            text = pages[137 * i:137 * i + 2700] + "\n\n" + text
        out.append(text)
    return out


def requests_of(model, prompts):
    return [("/v1/completions", {"model": model, "prompt": ids, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True,
                                 "return_token_ids": True, "logprobs": 2}) for ids in prompts]


def load(folder, dtype):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()


def rows_of(model, prompt, answer):
    """What transformers makes of each place of the answer, given all before it: log-probabilities."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer]), use_cache=False, logits_to_keep=len(answer) + 1).logits[0, :-1]
    return torch.log_softmax(logits.float(), dim=-1)


def first_difference(model, prompt, answer):
    """(the answer is token for token its own, None or (place, its likeliest token)): where the answer's token is not the
    likeliest, nor as likely as that."""
    rows = rows_of(model, prompt, answer)
    same = rows.argmax(-1).tolist() == answer
    for place, token in enumerate(answer):
        if rows[place, token] < rows[place].max():
            return same, (place, rows[place].argmax().item())
    return same, None


def differences(model, prompts, answers):
    """({prompt: its difference}, prompts without any tie)"""
    found = [first_difference(model, p, a) for p, a in zip(prompts, answers)]
    return {i: f for i, (_, f) in enumerate(found) if f}, sum(same for same, _ in found)


def compare(folder, dtype, prompts, answers):
    """The gap of a difference is that of the two tokens in float32, where log-probabilities are no multiples of 1/16."""
    answers = [a["choices"][0]["token_ids"] for a in answers]
    found, same = differences(load(folder, dtype), prompts, answers)
    exact = load(folder, "float32")
    gaps = {}
    for i, (place, theirs) in found.items():
        row = rows_of(exact, prompts[i], answers[i])[place]
        gaps[i] = abs((row[theirs] - row[answers[i][place]]).item())
    least_equal, gap_max = LIMITS[dtype]
    equal, worst = len(prompts) - len(found), max(gaps.values(), default=0.0)
    good = worst < gap_max and (dtype == "float32" or equal >= least_equal * len(prompts))
    print(f"{dtype}: {equal} of {len(prompts)} prompts equal over {TOKENS} tokens ({same} with ties broken alike), "
          f"differences at gaps of at most {worst:.2g}: {'as it should be' if good else 'NOT as it should be'}", flush=True)
    for i, gap in gaps.items():
        print(f"  prompt {i}, token {found[i][0]}: gap {gap:.2g}")
    if dtype != "float32":
        nearer = len(prompts) - len(differences(exact, prompts, answers)[0])
        print(f"  of transformers in float32, {nearer} of {len(prompts)} are equal")
    return good


def f32_copy(folder, to):
    config = json.loads((folder / "config.json").read_text())
    config.pop("torch_dtype", None)
    (to / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (to / name).write_bytes((folder / name).read_bytes())
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v.float() for k, v in tensors.items()}, to / "model.safetensors", metadata={"format": "pt"})


def through_a_cluster(folder, requests, alone):
    with Cluster(models=[folder], prefill=1, decode=1, kv_bytes="256MiB") as cluster:
        answers = cluster.post_all(requests, 8)
    different = sum(essence(a) != essence(b) for a, b in zip(answers, alone))
    print(f"cluster: {len(answers) - different} of {len(answers)} answers have the bits of one process")
    return different == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--skip-cluster", action="store_true")
    options = parser.parse_args()
    folder = options.folder.resolve()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prompts = [tokenizer(text)["input_ids"] for text in texts(options.prompts)]
    print(f"{len(prompts)} prompts of {min(map(len, prompts))} to {max(map(len, prompts))} tokens", flush=True)
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        wide = pathlib.Path(temporary) / folder.name
        wide.mkdir()
        f32_copy(folder, wide)
        # "avx512bf16" has a kernel of its own for bf16 weights only; f32 ones are computed in f32 by any.
        answers = solo(wide, requests_of(folder.name, prompts), SOLO)
        good &= compare(wide, "float32", prompts, answers)
    requests = requests_of(folder.name, prompts)
    alone = solo(folder, requests, SOLO)
    good &= compare(folder, "bfloat16", prompts, alone)
    if not options.skip_cluster:
        good &= through_a_cluster(folder, requests, alone)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
