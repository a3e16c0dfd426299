"""What a model's config.json says of its weights, and whether two say the same. Loads transformers only where it must.

A config leaves out what its class has by default, and old files spell some settings in another way. Where two differ as
they are written, both are read through transformers' class before they are compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from bench.core.types import Json

TIED = "tie_word_embeddings"
IDLE = frozenset(
    [
        "_name_or_path",
        "name_or_path",
        "transformers_version",
        "dtype",
        "torch_dtype",
        "use_cache",
        "architectures",
        "auto_map",
        "attn_implementation",
        "gradient_checkpointing",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "return_dict",
        "use_return_dict",
        "problem_type",
        "id2label",
        "label2id",
        "num_labels",
        "finetuning_task",
        "task_specific_params",
        "pretraining_tp",
        "chunk_size_feed_forward",
        "initializer_range",
        "initializer_factor",
        "router_aux_loss_coef",
        "router_jitter_noise",
    ]
)
"""Settings that change nothing for a sum: where a model comes from, how it was trained, how it is run ..."""
IDLE_FORMS = re.compile(r".*(_token_id|dropout(_prob)?|_pdrop)|_attn_implementation.*|_?unsloth_.*")
"""... and more of them. A tied head is seen in the tensors."""
LENGTHS = frozenset(("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"))
"""Settings that only some kinds of rotary positions depend on; a table of positions is seen in the tensors."""
ROPES_OF_LENGTH = ("dynamic", "yarn", "longrope", "su")


class ConfigDifference(NamedTuple):
    """The first setting in which two configs differ."""

    key: str
    """With dots where it lies in a part."""
    one: Any
    other: Any


def ties_head(config: Json) -> bool:
    """Whether a config ties the head to the embedding; where it doesn't say so, its class's default counts."""
    parts = [part for part in (config.get("text_config"), config) if isinstance(part, dict)]
    said = [part[TIED] for part in parts if isinstance(part.get(TIED), bool)]
    said += [settings[TIED] for part in parts if not said and TIED in (settings := class_settings(part, {}))]
    return bool(said and said[0])


def class_settings(config: Json, given: Json) -> Json:
    """All settings of the config's class, filled from ``given``; empty where transformers doesn't know or take it."""
    from transformers import CONFIG_MAPPING

    try:
        known = CONFIG_MAPPING[config["model_type"]]
        filled = known.from_dict(dict(given)).to_dict()
        return {key: filled[key] for key in known().to_dict() if key in filled}
    except Exception:
        return {}


def config_difference(one: Json, other: Json) -> ConfigDifference | None:
    """The first setting that changes what the same weights mean and that isn't the same in both; None where none is.

    A config without ``model_type`` is none of transformers', and nobody here knows what its settings mean.
    """
    if not one.get("model_type") or not other.get("model_type") or as_written(one) == as_written(other):
        return None
    pair = [one, other]
    if one.get("model_type") == other.get("model_type"):
        filled = [class_settings(config, config) for config in pair]
        pair = filled if all(filled) else pair
    ours, theirs = (dict(leaves(config)) for config in pair)
    for key in sorted(ours.keys() | theirs.keys(), key=lambda key: (key != "model_type", key)):
        if ours.get(key) != theirs.get(key):
            return ConfigDifference(key, ours.get(key), theirs.get(key))
    return None


def as_written(config: Json) -> Json:
    """The config without its idle settings; a null stays, as a class may have another default."""
    return {key: value for key, value in config.items() if key not in IDLE and not IDLE_FORMS.fullmatch(key)}


def leaves(config: Json) -> Iterator[tuple[str, Any]]:
    """Every setting that counts and isn't null, by its name with dots, in order of the names."""
    of_length = any(word in json.dumps(config, default=str) for word in map(json.dumps, ROPES_OF_LENGTH))

    def below(part: Json, before: str) -> Iterator[tuple[str, Any]]:
        for key in sorted(part, key=str):
            value = part[key]
            idle = key in IDLE or key == TIED or IDLE_FORMS.fullmatch(str(key)) or (key in LENGTHS and not of_length)
            respelled = key == "type" and "rope_type" in part
            if idle or respelled or value is None:
                continue
            if isinstance(value, dict):
                yield from below(value, f"{before}{key}.")
            else:
                yield f"{before}{key}", list(value) if isinstance(value, tuple) else value

    return below(config, "")
