#!/usr/bin/env python3
"""Makes a tiny random model of each family, as its checkpoints spell it, and what transformers computes with it.

    pip install torch transformers safetensors
    python3 make.py OUT_DIR [NAME ...]      # OUT_DIR is this folder; the folders of the models in it are made again

Each model is a Hugging Face directory: a config.json with the keys that published ones have (the library reads the very
same file), model.safetensors, and a tokenizer.json of single bytes. golden.json is the reference, computed with the
stored weights in float32: log-probabilities of the whole vocabulary at some positions, 64 greedy tokens; and
"apart_bf16", the largest difference that transformers itself makes at those positions, among the 20 most likely
tokens, when it computes in bfloat16. Prompts are longer than windows and than the lengths that ropes were made for.

Rows to experts and their answers are rounded to bf16, in any model and in the reference too, since they may travel so.
Experts are in the last layer, so that what is rounded at one position does not reach another. Seeds for which a rounding at
the positions above is so near its tie that the order of a sum would decide are passed over, as are those for which a greedy token is, and those for which the library in bfloat16 asks other experts there:
the difference would say nothing.  GPT-OSS has experts in every layer: those before the last answer with their biases alone,
and no rounding shows.
"""
import functools
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from tiny import byte_tokenizer, experts_of, experts_over_the_wire, stored_tensors, to_mxfp4, to_wire  # noqa: E402

PROMPT, GREEDY, TOP = 300, 64, 20
POSITIONS = [0, 17, 63, 130, 257, 299]
DISTINCT = 4   # who says one thing for ever is no test
MARGIN = 5e-4  # greedy tokens closer than that would be decided by the order of a sum
TIE = 3e-4     # the same of a rounding, in parts of the distance between two numbers of bf16

COMMON = dict(vocab_size=258, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, head_dim=16, max_position_embeddings=1024, rms_norm_eps=1e-5, hidden_act="silu",
              bos_token_id=None, eos_token_id=1, pad_token_id=None, rope_theta=10000.0, torch_dtype="bfloat16",
              tie_word_embeddings=False)
GEMMA = dict(COMMON, hidden_activation="gelu_pytorch_tanh", num_key_value_heads=1,
             query_pre_attn_scalar=24, tie_word_embeddings=True, rms_norm_eps=1e-6)
LONG = [round(1.0 + 0.4 * i, 2) for i in range(12)]

MIXTURE = dict(COMMON, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=16)
YARN = {"type": "yarn", "factor": 4.0, "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 128}
DEEPSEEK = dict(MIXTURE, num_key_value_heads=4, n_routed_experts=8, first_k_dense_replace=1, moe_layer_freq=1, q_lora_rank=32,
                kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=32, n_group=1, topk_group=1,
                attention_bias=False, ep_size=1, hidden_size=32, rms_norm_eps=1e-6)
for key in ("head_dim", "num_experts"):
    del DEEPSEEK[key]


GPT_OSS = dict(COMMON, hidden_size=64, intermediate_size=32, num_local_experts=8, num_experts_per_tok=3, experts_per_token=3,
               attention_bias=True, sliding_window=70, layer_types=["sliding_attention", "full_attention"], swiglu_limit=1.25,
               initial_context_length=128, rope_theta=150000, rope_scaling={
                   "rope_type": "yarn", "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
                   "original_max_position_embeddings": 128})
MXFP4 = {"quant_method": "mxfp4", "modules_to_not_convert": [
    "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}


def without(d, *keys, **more):
    return {k: v for k, v in {**d, **more}.items() if k not in keys}


MODELS = {
    "llama3": ("Llama", dict(COMMON, num_hidden_layers=3, rope_theta=500000.0, rope_scaling={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128})),
    "llama-bias": ("Llama", without(COMMON, "head_dim", "num_key_value_heads", hidden_size=64, attention_bias=True,
                                    mlp_bias=True, rope_scaling={"type": "linear", "factor": 4.0})),
    "llama-f16": ("Llama", dict(COMMON, torch_dtype="float16")),
    "mistral": ("Mistral", dict(COMMON, num_hidden_layers=3, sliding_window=100)),
    "qwen2": ("Qwen2", without(COMMON, "head_dim", hidden_size=64, num_hidden_layers=3, tie_word_embeddings=True,
                               use_sliding_window=True, sliding_window=48, max_window_layers=1, rope_scaling={
                                   "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128})),
    "qwen3": ("Qwen3", dict(COMMON, attention_bias=False, use_sliding_window=False, sliding_window=None,
                            max_window_layers=2, rope_theta=1000000.0)),
    "gemma2": ("Gemma2", dict(GEMMA, sliding_window=70, attn_logit_softcapping=2.0, final_logit_softcapping=10.0)),
    "gemma3": ("Gemma3", dict(GEMMA, num_hidden_layers=3, sliding_window=290, sliding_window_pattern=3, rope_theta=1000000.0,
                              rope_local_base_freq=10000.0, attn_logit_softcapping=None, final_logit_softcapping=None,
                              rope_scaling={"rope_type": "linear", "factor": 8.0})),
    "phi3": ("Phi3", without(COMMON, "head_dim", hidden_size=64, num_attention_heads=2, num_key_value_heads=1,
                             intermediate_size=32, partial_rotary_factor=0.75, sliding_window=200,
                             original_max_position_embeddings=128, rope_scaling={
                                 "type": "longrope", "long_factor": LONG, "short_factor": [1.0] * 12})),
    "qwen2-moe": ("Qwen2Moe", without(MIXTURE, "head_dim", num_attention_heads=2, num_key_value_heads=1,
                                      shared_expert_intermediate_size=32, norm_topk_prob=False, decoder_sparse_step=1,
                                      mlp_only_layers=[0], use_sliding_window=False, sliding_window=128,
                                      max_window_layers=2)),
    "qwen3-moe": ("Qwen3Moe", dict(MIXTURE, norm_topk_prob=True, decoder_sparse_step=2, mlp_only_layers=[],
                                   attention_bias=False, use_sliding_window=False, sliding_window=None)),
    "deepseek-v2-lite": ("DeepseekV2", dict(
        DEEPSEEK, q_lora_rank=None, n_shared_experts=2, norm_topk_prob=False,
        routed_scaling_factor=1.0, scoring_func="softmax", topk_method="greedy",
        rope_scaling=dict(YARN, mscale=0.707, mscale_all_dim=0.707))),
    "deepseek-v2": ("DeepseekV2", dict(
        DEEPSEEK, n_group=4, topk_group=2, n_shared_experts=2, norm_topk_prob=False, routed_scaling_factor=4.0,
        scoring_func="softmax", topk_method="group_limited_greedy", v_head_dim=16,
        rope_scaling=dict(YARN, mscale=1.0, mscale_all_dim=0.707))),
    "deepseek-v3": ("DeepseekV3", dict(
        DEEPSEEK, n_routed_experts=16, n_group=4, topk_group=2, n_shared_experts=1, norm_topk_prob=True,
        routed_scaling_factor=2.5, scoring_func="sigmoid", topk_method="noaux_tc", num_nextn_predict_layers=0,
        rope_scaling=dict(YARN, mscale=1.0, mscale_all_dim=1.0))),
    "deepseek-v3-halves": ("DeepseekV3", dict(
        DEEPSEEK, q_lora_rank=None, n_group=2, n_shared_experts=1, norm_topk_prob=True, routed_scaling_factor=1.5,
        rope_interleave=False, rope_scaling=None)),
    "gpt-oss": ("GptOss", GPT_OSS),
    "gpt-oss-mxfp4": ("GptOss", dict(GPT_OSS, num_hidden_layers=3, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                                     swiglu_limit=7.0, quantization_config=MXFP4)),
}


def randomise(model, seed, around_zero):
    """Wide enough that the distributions are neither flat nor certain."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith("bias"):
            p.data = 0.3 * noise
        elif name.endswith("sinks"):
            p.data = 1 + noise
        elif around_zero and name == "model.norm.weight":
            p.data = 7 + 0.2 * noise  # embeddings are the head, and small
        elif p.dim() == 1:
            p.data = (0 if around_zero else 1) + 0.2 * noise
        elif "embed" in name or "lm_head" in name:
            p.data = (0.03 if around_zero else 0.6) * noise  # Gemma scales it up
        else:
            p.data = noise * (1.2 / p.shape[-1] ** 0.5)
    for name, b in model.named_buffers():
        if "e_score_correction_bias" in name:
            b.data = 0.2 * torch.randn(b.shape, generator=generator)


def silence_experts(model):
    """Of all layers but the last: what they say does not depend on the row."""
    for m in experts_of(model)[:-1]:
        if hasattr(m, "down_proj_bias"):
            m.down_proj.data.zero_()


def quantise_experts(model):
    """The experts' weights become those that 4 bits can say; the tensors that say so."""
    stored = {}
    for name, p in model.named_parameters():
        if name.endswith((".gate_up_proj", ".down_proj")):
            stored[name + "_blocks"], stored[name + "_scales"], p.data = to_mxfp4(p.data)
            theirs = convert_moe_packed_tensors(stored[name + "_blocks"], stored[name + "_scales"], dtype=torch.bfloat16)
            assert torch.equal(theirs.float(), p.data), name
    return stored


def logprobs(model, tokens):
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([tokens])).logits[0].float(), dim=-1)


def reference(model, tokens):
    greedy, least = [], 1e9
    for _ in range(GREEDY):
        best = torch.topk(logprobs(model, tokens + greedy)[-1], 2)
        greedy.append(best.indices[0].item())
        least = min(least, (best.values[0] - best.values[1]).item())
    return greedy, least


def set_dtype(model, dtype):
    for p in model.parameters():  # not model.to(): that would round the rotary frequencies too
        p.data = p.data.to(dtype)


class Wire:
    """Rounds as rows are that travel, and remembers how near to a tie it came."""
    def __init__(self):
        self.nearest = 1.0

    def __call__(self, x):
        bits = x.contiguous().view(torch.int32) & 0xffff
        self.nearest = min(self.nearest, ((bits - 0x8000).abs().min() / 0x10000).item())
        return to_wire(x)


def nearest_tie(model, tokens):
    """Of the roundings at the positions that are compared."""
    wire = Wire()
    for m in experts_of(model):
        def forward(hidden, index, weight, m=m):
            experts_over_the_wire(m, hidden[POSITIONS], index[POSITIONS], weight[POSITIONS], to_wire=wire)
            return experts_over_the_wire(m, hidden, index, weight)
        m.forward = forward
    logprobs(model, tokens)
    return wire.nearest


def round_at_experts(model):
    for m in experts_of(model):
        m.forward = functools.partial(experts_over_the_wire, m)


def as_the_library(model):
    for m in experts_of(model):
        del m.forward


def logprobs_and_experts(model, tokens):
    """And which experts the rows at the positions above were sent to."""
    seen = []
    hooks = [m.register_forward_pre_hook(lambda m, args: seen.append(args[1][POSITIONS].sort().values.tolist()))
             for m in experts_of(model)]
    out = logprobs(model, tokens)
    for hook in hooks:
        hook.remove()
    return out, seen


def build(name, family, config, seed):
    config = without(config, "quantization_config")
    config = getattr(transformers, ("Gemma3Text" if family == "Gemma3" else family) + "Config").from_dict(config)
    model = getattr(transformers, family + "ForCausalLM")(config).eval()
    model.set_attn_implementation("eager")
    randomise(model, seed, family.startswith("Gemma"))
    silence_experts(model)
    return model


def make(out, name, family, config, seed):
    dtype = getattr(torch, config["torch_dtype"])
    model = build(name, family, config, seed)
    packed = quantise_experts(model) if "quantization_config" in config else {}
    set_dtype(model, dtype)
    tensors = {k: v.clone() for k, v in stored_tensors(model, model.config.model_type).items() if k + "_blocks" not in packed}
    tensors.update(packed)
    set_dtype(model, torch.float32)
    generator = torch.Generator().manual_seed(seed + 1)
    tokens = torch.randint(2, config["vocab_size"], (PROMPT,), generator=generator).tolist()
    if nearest_tie(model, tokens) < TIE:
        return False
    round_at_experts(model)
    greedy, least = reference(model, tokens)
    if least < MARGIN or len(set(greedy)) < DISTINCT:
        return False
    exact = logprobs(model, tokens)
    as_the_library(model)
    plain, experts = logprobs_and_experts(model, tokens)
    set_dtype(model, torch.bfloat16)
    rounded, experts_rounded = logprobs_and_experts(model, tokens)
    if experts_rounded != experts:
        return False
    top = plain.topk(TOP, dim=-1).indices
    apart = (plain.gather(1, top) - rounded.gather(1, top)).abs()[POSITIONS].max().item()
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = dict(config, architectures=[family + "ForCausalLM"])
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps(byte_tokenizer(), separators=(",", ":")) + "\n")
    golden = {"prompt": tokens, "greedy": greedy, "apart_bf16": round(apart, 6),
              "logprobs": {str(p): [round(v, 6) for v in exact[p].tolist()] for p in POSITIONS}}
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{name}: {sum(t.numel() for t in tensors.values())} numbers, seed {seed}, least margin {least:.4f}, "
          f"bf16 apart {apart:.4f}, greedy {greedy[:8]}", flush=True)
    return True


def main():
    out, names = pathlib.Path(sys.argv[1]), sys.argv[2:] or list(MODELS)
    torch.set_num_threads(1)
    for name in names:
        seed = 1000 * (1 + list(MODELS).index(name))
        while not make(out, name, *MODELS[name], seed):
            seed += 10


if __name__ == "__main__":
    main()
