"""Trains one of the two models from nothing, on one CPU core.

    python train.py --name demo --out demo.pt

The model learns to look up in short lists first, then the lists grow (STAGES). Only what the
assistant says counts, digits most: the numbers in a list are noise that nobody can learn.
"""

import argparse
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import text
import tokenizer
from configs import CONFIGS
from model import Model
from muon import Muon

DIGIT_WEIGHT, ANSWER_WEIGHT, STORY_WEIGHT = 1.0, 0.5, 0.3
LISTING_WEIGHT, AGAIN_WEIGHT = 0.02, 0.1  # a list; its repeat, whose order nobody can know
GOOD = 0.93  # share of digits right at which a stage is learned
PROBE_WEIGHT, PROBE_STAGES = 0.2, 4  # later stages do without
WARM_UP_STEPS, DECAY_SHARE = 20, 0.45

DRILL = {"repeat": 0.6, "lookup": 0.4}
MIXED = {"repeat": 0.3, "lookup": 0.4, "story": 0.2, "mixed": 0.1}
LONG = {"repeat": 0.1, "lookup": 0.6, "story": 0.2, "mixed": 0.1}
# (tokens of a row, tokens of a batch, how the batches are mixed, share of the time when it ends
# at the latest; it ends sooner when it is learned)
STAGES = (
    (64, 2048, DRILL, 0.25), (96, 2048, DRILL, 0.30), (160, 2560, DRILL, 0.35),
    (256, 4096, MIXED, 0.45), (512, 4096, MIXED, 0.60), (1024, 4096, LONG, 0.70),
    (2048, 4096, LONG, 1.00))


def pieces_of_talk(talk, story=False):
    """[(text, weight of a digit, weight of another character)] of a conversation."""
    pieces = []
    for message in talk.messages:
        pieces.append((f"<|{message['role']}|>", 0.0, 0.0))
        content = message["content"] + tokenizer.END
        if message["role"] != "assistant":
            pieces.append((content, 0.0, 0.0))
        elif content.startswith("The number of"):
            pieces.append((content, DIGIT_WEIGHT, ANSWER_WEIGHT))
        else:
            pieces.append((content, STORY_WEIGHT, STORY_WEIGHT))
    return pieces


def make_pieces(rng, kind, tokens):
    if kind == "repeat":
        first, again = text.repeated_list(rng, tokens)
        return [(first, LISTING_WEIGHT, LISTING_WEIGHT), (again, DIGIT_WEIGHT, AGAIN_WEIGHT),
                (tokenizer.END_OF_TEXT, AGAIN_WEIGHT, AGAIN_WEIGHT)]
    if kind == "lookup":
        turns = max(1, int(tokens * rng.uniform(0.15, 0.5)) // 24)
        return pieces_of_talk(text.lookup_dialogue(rng, tokens - 24 * turns, turns))
    if kind == "mixed":
        return pieces_of_talk(text.mixed_dialogue(rng, max(40, tokens - 300)))
    talk = text.small_talk(rng) if rng.random() < 0.15 else text.story_dialogue(rng)
    return pieces_of_talk(talk)


def encode(tokens, pieces):
    """(ids, weight of predicting each id): a token weighs what its first character weighs."""
    weights = []
    for piece, digit, other in pieces:
        weights += [digit if char.isdigit() else other for char in piece]
    encoding = tokens.encode("".join(piece for piece, _, _ in pieces))
    return encoding.ids, [weights[start] for start, _ in encoding.offsets]


def make_batch(rng, tokens, kind, length, batch_tokens):
    if kind == "story":
        length = min(length, 224)
    rows = [encode(tokens, make_pieces(rng, kind, length)) for _ in range(batch_tokens // length)]
    width = min(max(len(ids) for ids, _ in rows), length + 32)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    weights = np.zeros((len(rows), width), dtype=np.float32)
    for row, (row_ids, row_weights) in enumerate(rows):
        ids[row, :len(row_ids)] = row_ids[:width]
        weights[row, :len(row_ids)] = row_weights[:width]
    return torch.from_numpy(ids), torch.from_numpy(weights)


class Probe(nn.Module):
    """Asks the first layer at every digit, and before it, which name was the last one.

    A list entry can only be found by its name if its digits know whose they are. Learning that
    from the answers alone takes many times longer. The probe is thrown away after training.
    """

    def __init__(self, tokens, config):
        super().__init__()
        self.read = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)
        self.is_name = self.table(tokens, config, text.NAMES)
        self.is_asked = self.table(tokens, config, [*"0123456789", "\u0120"])

    @staticmethod
    def table(tokens, config, words):
        found = torch.zeros(config["vocab_size"], dtype=torch.bool)
        found[[tokens.token_to_id(word) for word in words]] = True
        return found

    def loss(self, model, ids):
        place = torch.where(self.is_name[ids], torch.arange(ids.shape[1]), -1).cummax(1).values
        asked = self.is_asked[ids] & (place >= 0)
        name = ids.gather(1, place.clamp(min=0))[asked]
        seen = F.rms_norm(model.first_layer[asked], (self.read.in_features,))
        return F.cross_entropy(self.read(seen), name)


def loss_of(model, probe, ids, weights):
    """(weighted loss, share of the digits that counted which were the most likely token)."""
    ids, target, weight = ids[:, :-1], ids[:, 1:], weights[:, 1:]
    hidden = model.hidden(ids)
    counts = weight > 0
    logits, target, weight = model.lm_head(hidden[counts]), target[counts], weight[counts]
    loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
    digits = weight == DIGIT_WEIGHT
    right = (logits.detach()[digits].argmax(-1) == target[digits]).float().mean().item()
    imbalance = model.imbalance()
    extra = PROBE_WEIGHT * probe.loss(model, ids) if probe else 0.0
    extra = extra + (0.0 if imbalance is None else 0.01 * imbalance)
    return loss + extra, loss.item(), right


@torch.no_grad()
def accuracy(model, tokens, length, count, first_seed):
    """Share of fresh look-ups whose whole answer is the most likely text."""
    right = 0
    for seed in range(first_seed, first_seed + count):
        asked = text.lookup(f"held out {seed}", length)
        prompt = tokens.encode(tokenizer.render(asked.messages, True)).ids
        reply = tokens.encode(asked.answer + tokenizer.END).ids
        hidden = model.hidden(torch.tensor([prompt + reply]))[0, len(prompt) - 1:-1]
        right += model.lm_head(hidden).argmax(-1).tolist() == reply
    return right / count


def grow_experts(model, dense):
    """Starts a mixture from a trained dense model (sparse upcycling, Komatsuzaki et al. 2022).

    An expert gets a random half of the dense neurons, twice as strong, so that whichever two
    experts a token meets, it gets on average what the dense layer would have given.
    """
    state = {key: value for key, value in dense.items() if ".mlp." not in key}
    state["lm_head.weight"] = dense["embed_tokens.weight"]
    model.load_state_dict(state, strict=False)
    for index, layer in enumerate(model.layers):
        gate, up, down = (dense[f"layers.{index}.mlp.{part}_proj.weight"].clone()
                          for part in ("gate", "up", "down"))
        for expert in layer.block_sparse_moe.experts:
            half = torch.randperm(gate.shape[0])[:expert.w1.weight.shape[0]]
            expert.w1.weight.data = gate[half]
            expert.w3.weight.data = up[half]
            expert.w2.weight.data = 2 * down[:, half]


def optimizers(model, probe, rate):
    """Muon for the matrices inside the layers, AdamW for embeddings, norms and routers."""
    inner = [p for name, p in model.named_parameters()
             if p.dim() == 2 and name.startswith("layers") and ".gate.weight" not in name]
    ours = {id(p) for p in inner}
    outer = [p for p in (*model.parameters(), *probe.parameters()) if id(p) not in ours]
    return [Muon(inner, lr=rate),
            torch.optim.AdamW(outer, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)]


class Progress:
    """Running means of the current stage, by kind of batch."""

    def __init__(self):
        self.loss, self.right, self.steps = {}, {}, 0

    def add(self, kind, loss, right):
        self.loss[kind] = 0.95 * self.loss.get(kind, loss) + 0.05 * loss
        if kind in ("repeat", "lookup"):
            self.right[kind] = 0.85 * self.right.get(kind, right) + 0.15 * right
        self.steps += 1

    def learned(self):
        return self.steps > 30 and len(self.right) == 2 and min(self.right.values()) >= GOOD

    def __str__(self):
        losses = " ".join(f"{kind} {value:.3f}" for kind, value in sorted(self.loss.items()))
        digits = " ".join(f"{kind} {value:.1%}" for kind, value in sorted(self.right.items()))
        return f"loss {losses}  digits {digits}"


def rate_share(step, ended):
    """Warm-up, then level, then straight down to almost nothing."""
    return min((step + 1) / WARM_UP_STEPS, 1, (1 - ended) / DECAY_SHARE + 0.01)


def take_step(model, probe, opts, rate, ids, weights):
    for opt in opts:
        for group in opt.param_groups:
            group["lr"] = rate
        opt.zero_grad(set_to_none=True)
    total, loss, right = loss_of(model, probe, ids, weights)
    total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for opt in opts:
        opt.step()
    return loss, right


def save(path, model, opts):
    torch.save({"model": model.state_dict(),
                "optimizers": [opt.state_dict() for opt in opts]}, path)


def train(given):
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    rng, tokens = random.Random(f"train {given.seed}"), tokenizer.load(given.name)
    model = Model(CONFIGS[given.name])
    if given.start:
        model.load_state_dict(torch.load(given.start)["model"])
    if given.from_dense:
        grow_experts(model, torch.load(given.from_dense)["model"])
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    probe = Probe(tokens, CONFIGS[given.name])
    opts = optimizers(model, probe, given.rate)
    if given.start:
        for opt, state in zip(opts, torch.load(given.start).get("optimizers", [])):
            opt.load_state_dict(state)
    begin = told = time.monotonic()
    stage, step, seen, progress = given.first_stage, 0, 0, Progress()
    while (ended := (time.monotonic() - begin) / (given.minutes * 60)) < 1:
        length, batch_tokens, mix, latest = STAGES[stage]
        if stage + 1 < len(STAGES) and (progress.learned() or ended > latest):
            stage, progress = stage + 1, Progress()
            continue
        if rng.random() < 0.35:  # shorter ones now and then, so that they stay learned
            length, batch_tokens = STAGES[rng.randrange(stage + 1)][:2]
        if length > 256:
            length = rng.randrange(length * 5 // 8, length + 1)
        kind = rng.choices(list(mix), list(mix.values()))[0]
        ids, weights = make_batch(rng, tokens, kind, length, batch_tokens)
        rate = given.rate * rate_share(step, ended)
        probing = probe if stage < PROBE_STAGES and not (given.start or given.from_dense) else None
        progress.add(kind, *take_step(model, probing, opts, rate, ids, weights))
        step, seen = step + 1, seen + ids.numel()
        if time.monotonic() - told > given.report:
            told = time.monotonic()
            exact = accuracy(model, tokens, min(STAGES[stage][0], 1500), 20, step)
            print(f"{told - begin:5.0f} s  step {step}  {seen / 1e6:.2f} M tokens  "
                  f"row {STAGES[stage][0]}  {progress}  exact {exact:.0%}", flush=True)
            save(given.out, model, opts)
    save(given.out, model, opts)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--name", choices=CONFIGS, required=True)
    options.add_argument("--out", required=True)
    options.add_argument("--start", help="a checkpoint to go on from")
    options.add_argument("--from-dense", help="for demo-moe: a checkpoint of demo to grow from")
    options.add_argument("--first-stage", type=int, default=0)
    options.add_argument("--minutes", type=float, default=35)
    options.add_argument("--report", type=float, default=60)
    options.add_argument("--rate", type=float, default=1e-2)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    train(given)


if __name__ == "__main__":
    main()
