"""A tiny model that says what a script has it say: a Hugging Face directory of a Llama whose attention and feed-forward are zero,
so that the next token depends on the last one alone, and whose output layer names it.

What it says is cut into pieces that are tokens of their own, each once, so that one leads to the next.  Which script runs is
decided by the last token of the prompt, which its chat template writes: the model "calls a tool" when it is shown tools, and
"answers" when it is shown a result.  Only the standard library.

usage: scripted_model.py DIRECTORY
"""
import json
import pathlib
import struct
import sys

WIDTH, HEADS, KV_HEADS, HEAD, FORWARD = 384, 4, 2, 64, 64
SCRIPTS = {
    "<|use|>": ["<think>", "\nThe weather", " is asked for.\n", "</think>", "\n\n", "<tool_call>", "\n{\"name\": \"get_weather\", ",
                 "\"arguments\": {\"place\": ", "\"Köln\", ", "\"unit\": \"C\"}", "}\n</tool_call>"],
    "<|two|>": ["Both. ", "<tool_call>{\"name\": \"get_weather\", \"arguments\": ", "{\"place\": \"Bonn\"}}", "</tool_call>\n<tool_call>",
                "{\"name\": \"book\", \"arguments\": {\"days\"", ": 2}} </tool_call>"],
    "<|answer|>": ["It is ", "21 degrees", " in Köln."],
    "<|plain|>": ["I have ", "no tools."],
}
SPECIALS = ["<|end|>", "<|user|>", "<|system|>", "<|assistant|>", "<|tool|>", *SCRIPTS]
PIECES = [piece for script in SCRIPTS.values() for piece in script]
TEMPLATE = """{%- for message in messages %}
    {{- '<|' + message.role + '|>' + (message.content or '') }}
    {%- for call in message.tool_calls or [] %}
        {{- '<tool_call>' + {'name': call.function.name, 'arguments': call.function.arguments}|tojson + '</tool_call>' }}
    {%- endfor %}
    {{- '<|end|>' }}
{%- endfor %}
{%- if messages[-1].role == 'tool' %}{{ '<|answer|>' }}
{%- elif not tools %}{{ '<|plain|>' }}
{%- elif 'both' in messages[-1].content %}{{ '<|two|>' }}
{%- else %}{{ '<|use|>' }}
{%- endif %}
{#- Thoughts stand within <think> and </think>. #}
"""


def byte_letters():
    """How byte-level BPE spells each byte."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in shown]
    return {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(others)}


def tokenizer():
    letters = byte_letters()
    vocab = {letters[b]: b for b in range(256)}
    added = [{"id": 256 + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": text in SPECIALS} for i, text in enumerate(SPECIALS + PIECES)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": byte_level, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": []}}


def tensors():
    """{name: (shape, {place: value})}, zero elsewhere."""
    count = 256 + len(SPECIALS) + len(PIECES)
    ids = {text: 256 + i for i, text in enumerate(SPECIALS + PIECES)}
    follows = {}
    for start, script in SCRIPTS.items():
        chain = [start, *script, "<|end|>"]
        follows.update({ids[a]: ids[b] for a, b in zip(chain, chain[1:])})
    ones = {i: 1.0 for i in range(WIDTH)}
    layer = "model.layers.0."
    return {
        "model.embed_tokens.weight": ((count, WIDTH), {token * WIDTH + token: 1.0 for token in range(count)}),
        "lm_head.weight": ((count, WIDTH), {follow * WIDTH + token: 4.0 for token, follow in follows.items()}),
        "model.norm.weight": ((WIDTH,), ones), layer + "input_layernorm.weight": ((WIDTH,), ones),
        layer + "post_attention_layernorm.weight": ((WIDTH,), ones),
        layer + "self_attn.q_proj.weight": ((HEADS * HEAD, WIDTH), {}), layer + "self_attn.k_proj.weight": ((KV_HEADS * HEAD, WIDTH), {}),
        layer + "self_attn.v_proj.weight": ((KV_HEADS * HEAD, WIDTH), {}), layer + "self_attn.o_proj.weight": ((WIDTH, HEADS * HEAD), {}),
        layer + "mlp.gate_proj.weight": ((FORWARD, WIDTH), {}), layer + "mlp.up_proj.weight": ((FORWARD, WIDTH), {}),
        layer + "mlp.down_proj.weight": ((WIDTH, FORWARD), {}),
    }


def write_tensors(path):
    head, data = {"__metadata__": {"format": "pt"}}, bytearray()
    for name, (shape, values) in tensors().items():
        size = 1
        for side in shape:
            size *= side
        begin = len(data)
        data.extend(bytes(2 * size))
        for place, value in values.items():  # bfloat16: the upper half of a float
            data[begin + 2 * place:begin + 2 * place + 2] = struct.pack("<f", value)[2:]
        head[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write(folder, template=TEMPLATE):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "vocab_size": 256 + len(SPECIALS + PIECES),
              "hidden_size": WIDTH, "intermediate_size": FORWARD, "num_hidden_layers": 1, "num_attention_heads": HEADS,
              "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
              "rope_theta": 10000.0, "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False,
              "bos_token_id": None, "eos_token_id": 256}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "bos_token": None, "chat_template": template}))
    write_tensors(folder / "model.safetensors")
    return folder


if __name__ == "__main__":
    write(sys.argv[1])
