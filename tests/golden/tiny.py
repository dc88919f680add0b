"""What the scripts beside it share about tiny models."""


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
