"""Tiny random models of the families that docs/families.md lists, with windows and lengths below those of the texts."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

COMMON = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
OLDER = {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 128}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 16,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama 2": ("llama", {"num_key_value_heads": 4}),
    "Llama 3": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "Llama with dynamic RoPE": (
        "llama",
        {
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
            "max_position_embeddings": 16,
        },
    ),
    "Qwen2": ("qwen2", {}),
    "Qwen3": ("qwen3", {"head_dim": 8}),
    "Qwen3 MoE": ("qwen3_moe", {"head_dim": 8, "moe_intermediate_size": 32, **EXPERTS}),
    "Gemma": ("gemma", {"head_dim": 8}),
    "Gemma 2": (
        "gemma2",
        {
            "head_dim": 8,
            "sliding_window": 8,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
            "query_pre_attn_scalar": 8,
        },
    ),
    "Gemma 3": ("gemma3_text", {"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}),
    "Phi-1, 1.5, 2": ("phi", {}),
    "Phi-3": ("phi3", {"sliding_window": 8}),
    "Phi-3 and 4 (longrope)": (
        "phi3",
        {"rope_parameters": LONG, "original_max_position_embeddings": 16, "max_position_embeddings": 64},
    ),
    "Mistral": ("mistral", {"sliding_window": 8}),
    "Mixtral": ("mixtral", EXPERTS),
    "OLMo": ("olmo", {}),
    "OLMo 2": ("olmo2", {}),
    "OLMo 3": ("olmo3", {"sliding_window": 8}),
    "GPT-2": ("gpt2", OLDER),
    "GPT-Neo": (
        "gpt_neo",
        {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "num_heads": 4, "window_size": 8},
    ),
    "GPT-J": ("gptj", OLDER | {"rotary_dim": 4}),
    "GPT-NeoX, Pythia": ("gpt_neox", {}),
    "OPT": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "BLOOM": ("bloom", {"n_layer": 2, "n_head": 4}),
    "MPT": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 128}),
    "Falcon": ("falcon", {"alibi": False, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "Falcon with ALiBi": ("falcon", {"alibi": True, "new_decoder_architecture": False, "multi_query": True}),
    "Mamba": ("mamba", {"state_size": 8, "time_step_rank": 4}),
    "Mamba 2": ("mamba2", {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8}),
    "SmolLM3": ("smollm3", {"sliding_window": None}),
    "Granite": ("granite", {"attention_multiplier": 0.3, "embedding_multiplier": 2.0, "logits_scaling": 2.0}),
    "Cohere": ("cohere", {"logit_scale": 0.5}),
    "Cohere 2": ("cohere2", {"sliding_window": 8, "logit_scale": 0.5}),
    "StableLM": ("stablelm", {}),
    "StarCoder 2": ("starcoder2", {}),
    "GPT-OSS": ("gpt_oss", {"head_dim": 8, "sliding_window": 8, **EXPERTS}),
    "Falcon-H1": (
        "falcon_h1",
        {
            "mamba_d_ssm": 32,
            "mamba_n_heads": 4,
            "mamba_d_head": 8,
            "mamba_d_state": 8,
            "mamba_chunk_size": 8,
            "head_dim": 8,
        },
    ),
    "DeepSeek V3": (
        "deepseek_v3",
        {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 8,
            "moe_intermediate_size": 16,
            "num_key_value_heads": 4,
            "first_k_dense_replace": 1,
        },
    ),
    "MiniMax": ("minimax", {"head_dim": 8, **EXPERTS}),
    "LFM2": ("lfm2", {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3}),
    "Gemma 3 with images": (
        "gemma3",
        {
            "text_config": {**COMMON, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8},
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
            "mm_tokens_per_image": 4,
            "image_token_index": 47,
            "boi_token_index": 48,
            "eoi_token_index": 49,
        },
    ),
    "GLM-4": ("glm4", {"head_dim": 8}),
    "Nemotron": ("nemotron", {}),
}
"""Name in the docs -> model type, and what its config has beside `COMMON`."""


def random_model(family: str, seed: int = 0) -> Any:
    """A tiny model of the family with weights so large that no position is like another, in eager attention."""
    kind, own = FAMILIES[family]
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **{**COMMON, **own}), attn_implementation="eager"
    )
    with torch.no_grad():
        for tensor in made.parameters():
            if tensor.dim() > 1:
                tensor.normal_(0, 0.15)
    return made.eval()
