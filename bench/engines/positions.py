"""Positions that depend on the longest text of a batch, and how each text still gets its own.

Under ``dynamic`` and ``longrope`` rotary embeddings the frequencies of a whole batch follow from its longest text, once
that is longer than the length that the model was first trained at. Up to there they are plain ones. Longer texts go
through the model alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bench.core.errors import UserError

PLACES = ("n_positions", "max_position_embeddings", "max_seq_len")
"""Settings that say how many positions a model has."""


def plain_reach(model: Any) -> float:
    """Tokens up to which a text's positions don't depend on what it is batched with; infinite for most models."""
    config = getattr(model, "config", None)
    if config is None:  # no model of transformers
        return math.inf
    reaches: list[int] = []
    for rope in rope_settings(config):
        kind = str(rope.get("rope_type"))
        if kind == "longrope" and "original_max_position_embeddings" in rope:
            reaches.append(int(rope["original_max_position_embeddings"]))
        elif kind == "longrope" or "dynamic" in kind:
            reaches.append(int(config.get_text_config().max_position_embeddings))
    return min(reaches, default=math.inf)


def rope_settings(config: Any) -> list[Mapping[str, Any]]:
    """The config's settings of rotary embeddings: one, or one for each type of layer; none where it has none."""
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    return [rope] if "rope_type" in rope else [part for part in rope.values() if isinstance(part, Mapping)]


def forget_longer_texts(model: Any) -> None:
    """Let no pass depend on the passes before it: transformers keeps the frequencies of the longest text so far."""
    if any("dynamic" in str(rope.get("rope_type")) for rope in rope_settings(model.config)):
        for module in model.modules():
            if hasattr(module, "original_max_seq_len") and hasattr(module, "max_seq_len_cached"):
                module.register_forward_pre_hook(reset_frequencies)


def reset_frequencies(module: Any, _: Any) -> None:
    """Put a rotary embedding back to where it stood before its first text."""
    for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
        setattr(module, name, module.original_max_seq_len)
    for name, buffer in list(module.named_buffers(recurse=False)):
        if name.endswith("inv_freq") and "original" not in name:
            first = getattr(module, name.replace("inv_freq", "original_inv_freq"))
            module.register_buffer(name, first.to(buffer.device), persistent=False)


def learnt_places(config: Any) -> float:
    """Places of a model that has learnt each of them, or made a table of them; infinite for rotary positions."""
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    rotary = any(getattr(config, name, None) for name in ("rope_parameters", "rope_theta", "rope_scaling"))
    places = [int(places) for name in PLACES if (places := getattr(config, name, None))]
    return math.inf if rotary else min(places, default=math.inf)


def check_length(config: Any, tokens: int) -> None:
    """`UserError` for a text longer than a model with learnt positions has places; others are asked as the field does."""
    if tokens > (places := learnt_places(config)):
        raise UserError(
            f"A text of {tokens} tokens is longer than the model's {places:.0f} positions: take a model with more, or "
            "shorter rows; texts are not cut in silence."
        )
