"""What the scripts beside it share about tiny models."""
import torch


def byte_tokenizer():
    """<pad>, <eos>, and the 256 bytes in the spelling of byte-level BPE."""
    vocab = {"<pad>": 0, "<eos>": 1}
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    for i, byte in enumerate(plain + [b for b in range(256) if b not in plain]):
        vocab[chr(byte) if byte in plain else chr(0x100 + i - len(plain))] = i + 2
    special = [{"id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True} for c, i in (("<pad>", 0), ("<eos>", 1))]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                              "use_regex": True},
            "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": False, "vocab": vocab, "merges": []}}


def to_wire(x):
    return x.to(torch.bfloat16).to(torch.float32)


def experts_of(model):
    return [m for m in model.modules() if isinstance(getattr(m, "gate_up_proj", None), torch.nn.Parameter)]


def ask(self, e, rows):
    """What expert e answers; GPT-OSS has its weights the other way round, with biases."""
    if hasattr(self, "gate_up_proj_bias"):
        gate_up = rows @ self.gate_up_proj[e] + self.gate_up_proj_bias[e]
        return self._apply_gate(gate_up) @ self.down_proj[e] + self.down_proj_bias[e]
    gate, up = torch.nn.functional.linear(rows, self.gate_up_proj[e]).chunk(2, dim=-1)
    return torch.nn.functional.linear(torch.nn.functional.silu(gate) * up, self.down_proj[e])


def experts_over_the_wire(self, hidden, top_index, top_weight, to_wire=to_wire):
    """Replaces the experts' forward: the same sum, with rows and answers rounded, in expert order."""
    out = torch.zeros_like(hidden)
    rows = to_wire(hidden)
    for e in range(self.gate_up_proj.shape[0]):
        row, slot = torch.where(top_index == e)
        if row.numel() == 0:
            continue
        out[row] += to_wire(ask(self, e, rows[row])) * top_weight[row, slot, None]
    return out


def stored_tensors(model, model_type):
    """The names that checkpoints of these families have; packed experts are taken apart, but those of GPT-OSS."""
    mixtral = model_type == "mixtral"
    out = {name: b.data.contiguous() for name, b in model.named_buffers() if "e_score_correction_bias" in name}
    for name, p in model.named_parameters():
        p = p.data
        if ".experts." not in name or model_type == "gpt_oss":
            if mixtral:
                name = name.replace(".mlp.gate.", ".block_sparse_moe.gate.")
            out[name] = p.contiguous()
            continue
        prefix, part = name.rsplit(".", 1)
        prefix = prefix.replace(".mlp.", ".block_sparse_moe.") if mixtral else prefix
        for e in range(p.shape[0]):
            if part == "gate_up_proj":
                gate, up = p[e].chunk(2, dim=0)
                names = ("w1", "w3") if mixtral else ("gate_proj", "up_proj")
                out[f"{prefix}.{e}.{names[0]}.weight"] = gate.contiguous()
                out[f"{prefix}.{e}.{names[1]}.weight"] = up.contiguous()
            else:
                out[f"{prefix}.{e}.{'w2' if mixtral else 'down_proj'}.weight"] = p[e].contiguous()
    return out


E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def to_mxfp4(weights):
    """[expert][inputs][outputs] as the nearest numbers of 4 bits, a power of two for 32 inputs of an output (OCP Microscaling
    Formats 1.0): blocks, scales, and the numbers that these are."""
    rows = weights.transpose(1, 2).float()
    groups = rows.reshape(*rows.shape[:2], -1, 32)
    exponent = torch.floor(torch.log2(groups.abs().amax(-1).clamp(min=2.0 ** -100))) - 2
    scaled = groups * torch.exp2(-exponent)[..., None]
    codes = (scaled.abs()[..., None] - E2M1).abs().argmin(-1)
    numbers = torch.where(scaled < 0, -1.0, 1.0) * E2M1[codes] * torch.exp2(exponent)[..., None]
    codes = (codes + 8 * (scaled < 0)).to(torch.uint8)
    blocks = codes[..., 0::2] | codes[..., 1::2] << 4
    scales = (exponent + 127).to(torch.uint8)
    return blocks.contiguous(), scales.contiguous(), numbers.reshape(rows.shape).transpose(1, 2).contiguous()
