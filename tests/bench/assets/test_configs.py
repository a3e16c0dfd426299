"""What two configs must agree in, however they are spelled, and what they needn't."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from bench.assets.configs import ConfigDifference, config_difference, ties_head

LLAMA = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_attention_heads": 2,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("changed", "key", "one", "other"),
    [
        ({"rope_theta": 500000.0}, "rope_parameters.rope_theta", 10000.0, 500000.0),
        ({"rms_norm_eps": 1e-6}, "rms_norm_eps", 1e-5, 1e-6),
        ({"hidden_act": "gelu"}, "hidden_act", "silu", "gelu"),
        ({"num_attention_heads": 4}, "head_dim", 4, 2),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_parameters.factor", None, 2.0),
        ({"model_type": "mistral"}, "model_type", "llama", "mistral"),
    ],
)
def test_what_changes_the_model_is_named_with_both_values(
    changed: dict[str, Any], key: str, one: Any, other: Any
) -> None:
    assert config_difference(LLAMA, LLAMA | changed) == ConfigDifference(key, one, other)


@pytest.mark.parametrize(
    ("own", "one", "other", "key"),
    [
        ({"model_type": "mistral"}, {"sliding_window": None}, {}, "sliding_window"),  # the class has 4096
        ({"model_type": "qwen2", "use_sliding_window": True}, {"max_window_layers": 1}, {"max_window_layers": 2}, "layer_types"),
    ],
)  # fmt: skip
def test_what_the_class_makes_of_a_setting_is_compared(own: Any, one: Any, other: Any, key: str) -> None:
    found = config_difference(LLAMA | own | one, LLAMA | own | other)
    assert found and found.key == key
    assert config_difference(LLAMA | own | one, LLAMA | own | one) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"torch_dtype": "bfloat16", "use_cache": False, "transformers_version": "4.40.0", "_name_or_path": "x"},
        {"eos_token_id": [1, 2], "bos_token_id": None, "attention_dropout": 0.1, "initializer_range": 0.5},
        {"max_position_embeddings": 128, "architectures": ["LlamaModel"], "tie_word_embeddings": True},
        {"rope_scaling": None, "attention_bias": False, "num_key_value_heads": 2, "head_dim": 4},
        {"unsloth_version": "1", "anything_that_llama_does_not_read": 3},
    ],
)
def test_what_changes_nothing_for_a_sum_may_differ(changed: dict[str, Any]) -> None:
    assert config_difference(LLAMA, LLAMA | changed) is None


def test_old_and_new_spellings_of_rotary_positions_are_one() -> None:
    plain = {key: value for key, value in LLAMA.items() if key != "rope_theta"}
    new = plain | {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}
    assert config_difference(LLAMA | {"rope_scaling": {"type": "linear", "factor": 2.0}}, new) is None
    assert config_difference(LLAMA, plain | {"rope_parameters": {"rope_theta": 10000.0}}) is None


def test_lengths_count_where_positions_depend_on_them() -> None:
    dynamic = LLAMA | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}
    found = config_difference(dynamic, dynamic | {"max_position_embeddings": 128})
    assert found == ConfigDifference("max_position_embeddings", 64, 128)


def test_a_model_that_transformers_does_not_know_is_compared_as_written() -> None:
    odd = {"model_type": "nobody's", "scale": 1, "use_cache": True}
    assert config_difference(odd, odd | {"scale": None}) == ConfigDifference("scale", 1, None)
    assert config_difference(odd, odd | {"use_cache": False}) is None
    assert config_difference({"scale": 1}, {"scale": 2}) is None, "none of transformers'"


@pytest.mark.parametrize("kind", ["llama", "gemma", "gpt2", "gpt_neox", "opt", "bloom", "mamba", "phi", "cohere"])
def test_a_head_is_tied_as_the_class_has_it(kind: str) -> None:
    assert ties_head({"model_type": kind}) is CONFIG_MAPPING[kind]().tie_word_embeddings
    assert ties_head({"model_type": kind, "tie_word_embeddings": True})
    assert not ties_head({"model_type": kind, "tie_word_embeddings": False})
    assert ties_head({"model_type": kind, "text_config": {"tie_word_embeddings": True}})
