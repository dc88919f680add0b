"""config.json of the two models."""

COMMON = {
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": None, "dtype": "bfloat16",
    "torch_dtype": "bfloat16", "eos_token_id": 4, "head_dim": 64, "hidden_act": "silu",
    "hidden_size": 128, "initializer_range": 0.02, "max_position_embeddings": 4096,
    "num_attention_heads": 4, "num_hidden_layers": 4, "num_key_value_heads": 2, "pad_token_id": 0,
    "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "use_cache": True, "vocab_size": 1024}

DENSE = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "intermediate_size": 256,
         "mlp_bias": False, "rope_scaling": None, "tie_word_embeddings": True, **COMMON}

MOE = {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "intermediate_size": 128,
       "num_local_experts": 8, "num_experts_per_tok": 2, "output_router_logits": False,
       "router_aux_loss_coef": 0.01, "router_jitter_noise": 0.0, "sliding_window": None,
       "tie_word_embeddings": False, **COMMON}

GENERATION = {"do_sample": True, "eos_token_id": [4, 0], "pad_token_id": 0, "temperature": 0.8,
              "top_p": 1.0}

CONFIGS = {"demo": DENSE, "demo-moe": MOE}
