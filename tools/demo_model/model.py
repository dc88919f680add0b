"""The two models in plain torch: a Llama and a Mixtral, named like their Hugging Face tensors.

Small enough to read in one sitting; golden.py and evaluate.py hold it against transformers.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, 1e-5)


def rope_table(length, head_dim, theta):
    freq = theta ** (-torch.arange(0, head_dim, 2).float() / head_dim)
    angle = torch.outer(torch.arange(length).float(), freq).repeat(1, 2)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, h = c["hidden_size"], c["head_dim"]
        self.head_dim, self.group = h, c["num_attention_heads"] // c["num_key_value_heads"]
        self.q_proj = nn.Linear(d, c["num_attention_heads"] * h, bias=False)
        self.k_proj = nn.Linear(d, c["num_key_value_heads"] * h, bias=False)
        self.v_proj = nn.Linear(d, c["num_key_value_heads"] * h, bias=False)
        self.o_proj = nn.Linear(c["num_attention_heads"] * h, d, bias=False)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        q, k, v = (p(x).view(b, t, -1, self.head_dim).transpose(1, 2)
                   for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (y.repeat_interleave(self.group, 1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))


class Mlp(nn.Module):
    """Dense: gate_proj, up_proj, down_proj. As an expert: the same three as w1, w3, w2."""

    def __init__(self, width, inner, names=("gate_proj", "up_proj", "down_proj")):
        super().__init__()
        self.names = names
        self.add_module(names[0], nn.Linear(width, inner, bias=False))
        self.add_module(names[1], nn.Linear(width, inner, bias=False))
        self.add_module(names[2], nn.Linear(inner, width, bias=False))

    def forward(self, x):
        gate, up, down = (getattr(self, name) for name in self.names)
        return down(F.silu(gate(x)) * up(x))


class Experts(nn.Module):
    """Mixtral's block: softmax over all experts, the top two, their weights made to sum to one."""

    def __init__(self, c):
        super().__init__()
        self.count, self.top = c["num_local_experts"], c["num_experts_per_tok"]
        self.gate = nn.Linear(c["hidden_size"], self.count, bias=False)
        self.experts = nn.ModuleList(
            Mlp(c["hidden_size"], c["intermediate_size"], ("w1", "w3", "w2"))
            for _ in range(self.count))
        self.balance = None  # how unevenly the last batch was spread: 1 is even

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        share = F.softmax(self.gate(flat), -1)
        weight, chosen = share.topk(self.top, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        load = F.one_hot(chosen, self.count).float().mean((0, 1))
        self.balance = self.count * (load * share.mean(0)).sum()
        out = torch.zeros_like(flat)
        for index, expert in enumerate(self.experts):
            row, rank = (chosen == index).nonzero(as_tuple=True)
            out = out.index_add(0, row, expert(flat[row]) * weight[row, rank, None])
        return out.view_as(x)


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (Norm(c["hidden_size"]) for _ in "12")
        self.self_attn = Attention(c)
        if "num_local_experts" in c:
            self.block_sparse_moe = Experts(c)
        else:
            self.mlp = Mlp(c["hidden_size"], c["intermediate_size"])

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        feed = self.block_sparse_moe if hasattr(self, "block_sparse_moe") else self.mlp
        return x + feed(self.post_attention_layernorm(x))


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.config = c
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = Norm(c["hidden_size"])
        self.lm_head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02 if "embed" in name or "lm_head" in name
                                else p.shape[1] ** -0.5 * 0.7)
        if c["tie_word_embeddings"]:
            self.lm_head.weight = self.embed_tokens.weight
        cos, sin = rope_table(c["max_position_embeddings"], c["head_dim"], c["rope_theta"])
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def hidden(self, ids):
        x = self.embed_tokens(ids)
        cos, sin = self.cos[:ids.shape[1]], self.sin[:ids.shape[1]]
        for index, layer in enumerate(self.layers):
            x = layer(x, cos, sin)
            if index == 0:
                self.first_layer = x  # what train.py's probe looks at
        return self.norm(x)

    def forward(self, ids):
        return self.lm_head(self.hidden(ids))

    def imbalance(self):
        """Mean over the layers of how unevenly experts are used; None for a dense model."""
        values = [part.balance for part in self.modules() if isinstance(part, Experts)]
        return torch.stack(values).mean() if values else None

    def tensors(self):
        """name -> tensor as a Hugging Face folder names them."""
        found = {}
        for name, tensor in self.state_dict().items():
            if name == "lm_head.weight" and self.config["tie_word_embeddings"]:
                continue
            found[name if name == "lm_head.weight" else f"model.{name}"] = tensor
        return found
