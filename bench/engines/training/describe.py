"""All that decides the weights which training gives, for the key of a cached node; loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from bench.core.contracts import Recipe, Stream
from bench.core.types import Checkpoint, data_hash, without_references
from bench.core.versions import TRAINING


def describe_training(streams: Sequence[Stream], recipe: Recipe) -> dict[str, Any]:
    """All that decides the weights which training gives, as plain JSON for the cache key."""
    unsaid = {field.name: field.default for field in fields(Recipe) if field.name in ("lora", "only", "until", "decay")}
    unsaid |= {"dtype": "float32" if recipe.dtype else ""}
    return {
        "engine": TRAINING,
        "recipe": {
            name: value for name, value in asdict(recipe).items() if name not in unsaid or value != unsaid[name]
        },
        "streams": [
            {
                "data": data_hash(without_references(stream.examples)),
                "batch": stream.batch,
                "loss": describe_loss(stream.loss),
                "weight": stream.weight,
                **({"limit": asdict(stream.limit)} if stream.limit else {}),
                **({"sharpness": stream.sharpness} if stream.sharpness else {}),
                **({"beside": stream.beside.hash} if stream.beside else {}),
                **({"last_weight": stream.last_weight} if stream.last_weight is not None else {}),
            }
            for stream in streams
        ],
    }


def describe_loss(loss: Any) -> dict[str, Any]:
    """A loss by its name, version and fields, as plain JSON; a checkpoint among them by its content."""
    named = {each.name: getattr(loss, each.name) for each in fields(loss)}
    hashes = {name: value.hash for name, value in named.items() if isinstance(value, Checkpoint)}
    return {"name": type(loss).__qualname__, "version": loss.version} | asdict(loss) | hashes
