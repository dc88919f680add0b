#!/usr/bin/env python3
"""Writes a model of a given shape with random weights, for measurements only.

    python3 random_model.py dense OUT_DIR     # 246 M weights in bf16: the shape of the dense baseline
    python3 random_model.py moe OUT_DIR       # 338 M weights, 85 M active

Plain Python: a megabyte of random numbers is repeated, which no timing notices.
"""
import array
import json
import pathlib
import random
import struct
import sys

SHAPES = {
    "dense": dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=1024, num_hidden_layers=16,
                  intermediate_size=2816, num_attention_heads=16, num_key_value_heads=4, vocab_size=32000),
    "moe": dict(architectures=["MixtralForCausalLM"], model_type="mixtral", hidden_size=1024, num_hidden_layers=8,
                intermediate_size=640, num_attention_heads=16, num_key_value_heads=4, vocab_size=32000,
                num_local_experts=16, num_experts_per_tok=2),
}


def tensors(c):
    h, kv = c["hidden_size"], c["hidden_size"] // c["num_attention_heads"] * c["num_key_value_heads"]
    inner = c["intermediate_size"]
    yield "model.embed_tokens.weight", (c["vocab_size"], h)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (h,)
        yield p + "post_attention_layernorm.weight", (h,)
        for name, n in (("q", h), ("k", kv), ("v", kv), ("o", h)):
            yield f"{p}self_attn.{name}_proj.weight", (n, h)
        if "num_local_experts" in c:
            p += "block_sparse_moe."
            yield p + "gate.weight", (c["num_local_experts"], h)
            for e in range(c["num_local_experts"]):
                yield f"{p}experts.{e}.w1.weight", (inner, h)
                yield f"{p}experts.{e}.w3.weight", (inner, h)
                yield f"{p}experts.{e}.w2.weight", (h, inner)
        else:
            yield p + "mlp.gate_proj.weight", (inner, h)
            yield p + "mlp.up_proj.weight", (inner, h)
            yield p + "mlp.down_proj.weight", (h, inner)
    yield "model.norm.weight", (h,)
    yield "lm_head.weight", (c["vocab_size"], h)


def size(shape):
    n = 2
    for d in shape:
        n *= d
    return n


def noise(std):
    generator = random.Random(1)
    floats = array.array("f", (generator.gauss(0, std) for _ in range(1 << 19)))
    halves = array.array("H", floats.tobytes())[1::2]  # the upper half of each: bf16, cut
    return halves.tobytes()


def main():
    config = dict(SHAPES[sys.argv[1]], max_position_embeddings=4096, rms_norm_eps=1e-5, rope_theta=10000.0,
                  bos_token_id=None, eos_token_id=1, hidden_act="silu", tie_word_embeddings=False,
                  torch_dtype="bfloat16")
    out = pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tokenizer = pathlib.Path(__file__).parent / "../../tests/golden/engine/llama-tied/tokenizer.json"
    (out / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    header, offset = {}, 0
    for name, shape in tensors(config):
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size(shape)]}
        offset += size(shape)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    random_bytes, ones = noise(0.03), b"\x80\x3f" * 1024
    with open(out / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors(config):
            source = ones if name.endswith("norm.weight") else random_bytes
            for at in range(0, size(shape), len(source)):
                f.write(source[:min(len(source), size(shape) - at)])
    print(f"{out}: {offset / 2e6:.0f} M weights")


if __name__ == "__main__":
    main()
