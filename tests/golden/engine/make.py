#!/usr/bin/env python3
"""Makes the tiny random models of this folder and what transformers computes with them.

    pip install torch transformers safetensors
    python3 make.py OUT_DIR          # OUT_DIR is this folder; everything in it is made again

Each model is a Hugging Face directory (config.json, model.safetensors, and a tokenizer.json of single
bytes, so that it opens like any other). golden.json holds the reference: a prompt, the log-probabilities
of the whole vocabulary at some positions, and 32 greedy tokens with the margin to the second best.

There are two references, both computed in float32 from the stored weights. "logprobs_f32" is plain (dense models).
"logprobs" (and "greedy") rounds to bf16 where Baton's definition of a model does: keys and values of bf16
models, which are stored and travel so, and the rows that an expert gets and what it answers, which may travel.
"""
import functools
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from tiny import byte_tokenizer, experts_of, experts_over_the_wire, stored_tensors, to_wire  # noqa: E402

PROMPT = 300
POSITIONS = [0, 1, 2, 15, 16, 17, 31, 63, 64, 100, 127, 255, 256, 257, 299]
GREEDY = 32

COMMON = dict(vocab_size=258, max_position_embeddings=1024, bos_token_id=None, eos_token_id=1, pad_token_id=None,
              num_hidden_layers=2, rms_norm_eps=1e-5)
LLAMA = dict(COMMON, hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2,
             rope_theta=10000.0)
SMALL = dict(COMMON, hidden_size=32, num_attention_heads=4, head_dim=16)

MODELS = {
    "llama-tied": ("LlamaForCausalLM", transformers.LlamaConfig(**LLAMA, tie_word_embeddings=True), torch.bfloat16),
    "llama-f32": ("LlamaForCausalLM", transformers.LlamaConfig(
        **SMALL, intermediate_size=64, num_key_value_heads=4, rope_theta=500000.0, tie_word_embeddings=False),
        torch.float32),
    "mixtral": ("MixtralForCausalLM", transformers.MixtralConfig(
        **SMALL, intermediate_size=32, num_key_value_heads=1, num_local_experts=8, num_experts_per_tok=2,
        rope_theta=1000000.0, sliding_window=None, tie_word_embeddings=False), torch.bfloat16),
    "qwen3-moe": ("Qwen3MoeForCausalLM", transformers.Qwen3MoeConfig(
        **SMALL, intermediate_size=64, moe_intermediate_size=32, num_key_value_heads=2, num_experts=12,
        num_experts_per_tok=4, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
        rope_theta=1000000.0, tie_word_embeddings=False), torch.bfloat16),
    "qwen3-moe-f32": ("Qwen3MoeForCausalLM", transformers.Qwen3MoeConfig(
        **SMALL, intermediate_size=64, moe_intermediate_size=16, num_key_value_heads=2, num_experts=8,
        num_experts_per_tok=2, norm_topk_prob=False, decoder_sparse_step=1, mlp_only_layers=[],
        rope_theta=10000.0, tie_word_embeddings=True), torch.float32),
}


def randomise(model, seed):
    """Wide enough that the distributions are neither flat nor certain."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if p.dim() == 1:
            p.data = 1 + 0.2 * noise
        elif "embed" in name or "lm_head" in name:
            p.data = 0.6 * noise
        else:
            p.data = noise * (1.2 / p.shape[-1] ** 0.5)


def some_logits(model):
    with torch.no_grad():
        return model(torch.arange(2, 66)[None]).logits


def attention_over_stored_kv(module, query, key, value, *args, **kwargs):
    """The library's eager attention over rounded keys and values."""
    eager = sys.modules[type(module).__module__].eager_attention_forward
    return eager(module, query, to_wire(key), to_wire(value), *args, **kwargs)


def prompt_of(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, COMMON["vocab_size"], (PROMPT,), generator=generator).tolist()


def at_positions(model, tokens):
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([tokens])).logits[0], dim=-1)
    return {str(p): [round(v, 6) for v in logprobs[p].tolist()] for p in POSITIONS}


def reference(model, tokens):
    with torch.no_grad():
        greedy, margins, chosen = [], [], []
        for _ in range(GREEDY):
            row = torch.log_softmax(model(torch.tensor([tokens + greedy])).logits[0, -1], dim=-1)
            best = torch.topk(row, 2)
            greedy.append(best.indices[0].item())
            chosen.append(round(best.values[0].item(), 6))
            margins.append(round((best.values[0] - best.values[1]).item(), 6))
    return {"prompt": tokens, "logprobs": at_positions(model, tokens), "greedy": greedy, "greedy_logprobs": chosen, "margins": margins}


def write_config(path, arch, config, dtype):
    """As checkpoints of these families spell it, whatever this version of the library calls things."""
    d = config.to_dict()
    keep = ["vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "num_hidden_layers",
            "rms_norm_eps", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
            "head_dim", "tie_word_embeddings", "num_local_experts", "num_experts", "num_experts_per_tok",
            "moe_intermediate_size", "norm_topk_prob", "decoder_sparse_step", "mlp_only_layers", "hidden_act",
            "model_type"]
    out = {"architectures": [arch], "torch_dtype": str(dtype).replace("torch.", "")}
    out.update({k: d[k] for k in keep if k in d})
    rope = d.get("rope_parameters") or d
    out["rope_theta"] = rope["rope_theta"]
    if config.model_type == "qwen3_moe":
        out["num_experts"] = out.pop("num_local_experts", None) or out["num_experts"]
    path.write_text(json.dumps(out, indent=1, sort_keys=True) + "\n")


def make(out, name, arch, config, dtype, seed):
    model = getattr(transformers, arch)(config)
    randomise(model, seed)
    for p in model.parameters():  # not model.to(): that would round the rotary frequencies too
        p.data = p.data.to(dtype)
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    save_file(stored_tensors(model, config.model_type), folder / "model.safetensors", metadata={"format": "pt"})
    write_config(folder / "config.json", arch, config, dtype)
    (folder / "tokenizer.json").write_text(json.dumps(byte_tokenizer(), separators=(",", ":")) + "\n")
    for p in model.parameters():
        p.data = p.data.float()
    model.eval()
    tokens = prompt_of(seed + 1)
    model.set_attn_implementation("eager")
    plain_logprobs = at_positions(model, tokens)
    plain = some_logits(model)
    experts = experts_of(model)
    for m in experts:
        m.forward = functools.partial(experts_over_the_wire, m, to_wire=lambda x: x)
    # Rounding is all that the replacement changes.
    assert (some_logits(model) - plain).abs().max().item() < 1e-4
    model.set_attn_implementation("stored_kv" if dtype == torch.bfloat16 else "eager")
    for m in experts:
        m.forward = functools.partial(experts_over_the_wire, m)
    golden = reference(model, tokens)
    if "llama" in name:  # where routing is near a tie, the plain reference takes other experts
        golden["logprobs_f32"] = plain_logprobs
    apart = max(abs(a - b) for p in plain_logprobs for a, b in zip(plain_logprobs[p], golden["logprobs"][p]))
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(name, sum(p.numel() for p in model.parameters()), "greedy", golden["greedy"][:8],
          "least margin", min(golden["margins"]), "the references differ by", apart)


def main():
    out = pathlib.Path(sys.argv[1])
    transformers.AttentionInterface.register("stored_kv", attention_over_stored_kv)
    transformers.AttentionMaskInterface.register("stored_kv", transformers.masking_utils.eager_mask)
    torch.set_num_threads(1)
    for i, (name, (arch, config, dtype)) in enumerate(MODELS.items()):
        make(out, name, arch, config, dtype, 100 * (i + 1))


if __name__ == "__main__":
    main()
