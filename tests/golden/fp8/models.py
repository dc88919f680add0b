#!/usr/bin/env python3
"""Makes two tiny random models as those published in FP8 are stored, and what torch computes with them in 8 bits.

    pip install torch transformers safetensors
    python3 models.py OUT_DIR      # OUT_DIR is this folder; the folders of the models in it are made again

"deepseek-v3" has scales in float32 and experts, "qwen3" scales in bfloat16; both have sizes that 128 does not divide, and the first ones that it does. The
reference is transformers' own model with its linears replaced: inputs take a scale for each row and 128 of them (make.py) and are
rounded to F8_E4M3, weights are what is stored, sums are in float32. KV is rounded to bfloat16 as it is kept, kv_b_proj is
weights of bfloat16 over latents that are not rounded again, rows to experts and their answers are rounded as they travel
(families/make.py).

golden.json: log-probabilities at some positions; "apart", the largest difference that it makes there, among the 20 most likely
tokens, not to round inputs to 8 bits; "steady", the same when all sums are in float64: another order of sums turns a rounding here
and there. Seeds for which that shows in more than a few numbers are passed over: they would say nothing.
"""
import importlib.util
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen3.modeling_qwen3 import eager_attention_forward

HERE = pathlib.Path(__file__).resolve().parent


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


families = load("families_make", HERE.parent / "families" / "make.py")
BLOCK = load("fp8_make", HERE / "make.py").BLOCK
PROMPT, TOP = 48, 20
POSITIONS = [0, 3, 7, 12, 18, 23, 29, 34, 40, 47]
STEADY, APART = 0.01, 0.1

FP8 = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}
MODELS = {
    "deepseek-v3": ("DeepseekV3", dict(
        families.DEEPSEEK, n_routed_experts=4, n_group=2, topk_group=1, n_shared_experts=1, norm_topk_prob=True, hidden_size=128,
        intermediate_size=256, moe_intermediate_size=128, q_lora_rank=144, kv_lora_rank=32, v_head_dim=48, num_experts_per_tok=2,
        routed_scaling_factor=2.5, scoring_func="sigmoid", topk_method="noaux_tc", num_nextn_predict_layers=0,
        rope_scaling=dict(families.YARN, mscale=1.0, mscale_all_dim=1.0), quantization_config=FP8)),
    "qwen3": ("Qwen3", dict(
        families.COMMON, hidden_size=144, intermediate_size=272, attention_bias=False, use_sliding_window=False, sliding_window=None,
        max_window_layers=2, rope_theta=1000000.0, num_attention_heads=9,
        num_key_value_heads=3, quantization_config=dict(FP8, modules_to_not_convert=["lm_head"]))),
}


def to_bf16(x):
    return x.to(torch.bfloat16).to(x.dtype)


def quantised(x):
    """What 8 bits leave of inputs."""
    out = torch.empty_like(x)
    for first in range(0, x.shape[-1], BLOCK):
        part = x[..., first:first + BLOCK].float()
        scale = part.abs().amax(-1, keepdim=True).clamp(min=1e-10) / 448.0
        out[..., first:first + BLOCK] = (part / scale).to(torch.float8_e4m3fn).to(x.dtype) * scale.to(x.dtype)
    return out


def split(weights, scale_dtype):
    """[outputs][inputs] as codes, and a scale for each block of them."""
    rows, columns = (torch.arange(n) // BLOCK for n in weights.shape)
    scales = torch.zeros(rows[-1] + 1, columns[-1] + 1)
    for r in range(scales.shape[0]):
        for c in range(scales.shape[1]):
            scales[r, c] = weights[rows == r][:, columns == c].abs().max() / 440.0  # a bf16 may be a little less
    scales = scales.to(scale_dtype)
    spread = scales.float()[rows][:, columns]
    codes = (weights / spread).to(torch.float8_e4m3fn)
    return codes, scales, codes.float() * spread


class Linear:
    """In the place of a module's forward."""
    inputs = staticmethod(quantised)

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, x):
        return torch.nn.functional.linear(Linear.inputs(x), self.weights.to(x.dtype))


def is_narrow(name):
    return name.endswith(("_proj.weight", "_proj_with_mqa.weight"))


def narrow(model, tensors, scale_dtype):
    """Stores as published; the model's linears compute with what is stored."""
    numbers = {}
    for name in [n for n in tensors if is_narrow(n)]:
        codes, scales, numbers[name] = split(tensors[name].float(), scale_dtype)
        tensors[name], tensors[name + "_scale_inv"] = codes, scales
    for name, module in model.named_modules():
        if name.endswith("kv_b_proj"):
            wide = to_bf16(numbers[name + ".weight"])
            module.forward = lambda x, wide=wide: torch.nn.functional.linear(to_bf16(x), wide.to(x.dtype))
        elif name + ".weight" in numbers:
            module.forward = Linear(numbers[name + ".weight"])
    for name, module in model.named_modules():
        if name.endswith(".experts"):
            module.forward = experts_of(module, name, numbers)


def experts_of(module, name, numbers):
    def part(e, which):
        return Linear(numbers[f"{name}.{e}.{which}_proj.weight"])

    def forward(hidden, index, weight):
        out = torch.zeros_like(hidden)
        rows = to_bf16(hidden)
        for e in range(module.gate_up_proj.shape[0]):
            row, slot = torch.where(index == e)
            if row.numel() > 0:
                inner = torch.nn.functional.silu(part(e, "gate")(rows[row])) * part(e, "up")(rows[row])
                out[row] += to_bf16(part(e, "down")(inner)) * weight[row, slot, None]
        return out
    return forward


def attention(module, query, key, value, *args, **kwargs):
    """Over KV as it is kept; of latents only what turns is kept beside them."""
    nope = getattr(module, "qk_nope_head_dim", 0)
    key = torch.cat([key[..., :nope], to_bf16(key[..., nope:])], dim=-1)
    return eager_attention_forward(module, query, key, value if nope else to_bf16(value), *args, **kwargs)


def compute(model, tokens, dtype, inputs):
    Linear.inputs = staticmethod(inputs)
    families.set_dtype(model, dtype)
    return families.logprobs(model, tokens)[POSITIONS]


def make(out, name, family, config, seed):
    generator = torch.Generator().manual_seed(seed + 1)
    tokens = torch.randint(2, config["vocab_size"], (PROMPT,), generator=generator).tolist()
    model = families.build(name, family, config, seed)
    families.set_dtype(model, torch.bfloat16)
    tensors = {k: v.clone() for k, v in families.stored_tensors(model, model.config.model_type).items()}
    narrow(model, tensors, torch.bfloat16 if family == "Qwen3" else torch.float32)
    model.set_attn_implementation("kept")
    golden = compute(model, tokens, torch.float32, quantised)
    top = golden.topk(TOP, dim=-1).indices
    steady = (golden - compute(model, tokens, torch.float64, quantised).float()).gather(1, top).abs()
    apart = (golden - compute(model, tokens, torch.float32, lambda x: x)).gather(1, top).abs().max().item()
    print(f"{name}: seed {seed}, steady {steady.max().item():.2g}, median {steady.median().item():.2g}, apart {apart:.2g}", flush=True)
    if apart < APART or steady.max().item() > STEADY:
        return False
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = dict(config, architectures=[family + "ForCausalLM"])
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps(families.byte_tokenizer(), separators=(",", ":")) + "\n")
    (folder / "golden.json").write_text(json.dumps({
        "prompt": tokens, "apart": round(apart, 6), "steady": round(steady.max().item(), 6),
        "logprobs": {str(p): [round(v, 6) for v in golden[i].tolist()] for i, p in enumerate(POSITIONS)}},
        separators=(",", ":")) + "\n")
    print(f"{name}: {sum(t.numel() for t in tensors.values())} numbers", flush=True)
    return True


def main():
    out = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    ALL_ATTENTION_FUNCTIONS.register("kept", attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register("kept", eager_mask)
    for i, name in enumerate(MODELS):
        seed = 1000 * (1 + i)
        while not make(out, name, *MODELS[name], seed):
            seed += 10


if __name__ == "__main__":
    main()
