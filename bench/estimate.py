"""How long and how much memory: estimates from the tokens, the parameters and the rates that this store has seen.

A rate is floating-point operations per second of one worker, 6 per parameter and token for training. The first run
of a store uses a stated default; later ones the median of what its own training nodes measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.contracts import Recipe, Stream
from bench.loaders import LOADERS
from bench.types import Checkpoint, Json

DEFAULT_RATE = {5_000_000: 25e9, 10**15: 55e9}
"""Training operations per second of one AVX2 core, up to so many parameters, when nothing has been measured yet: small
matrices are slower."""
ALIKE = 8
"""Rates are taken from models whose size is within this factor."""
BYTES_PER_PARAMETER = 16
"""Float32 weights, gradients and AdamW's two moments."""
PROCESS_BYTES = 700_000_000
"""Resident memory of a worker before it holds a model: Python, torch, transformers."""


def known_rate(root: Path, parameters: int) -> float:
    """Median training rate of this store's nodes of models of about this size, or the default."""
    rates = []
    for file in sorted((root / "nodes").glob("*/*/node.json"))[:500]:
        meta = measured(file)
        size = meta.get("parameters", 0)
        if (
            meta.get("train_seconds", 0) > 1
            and not meta.get("resumed")
            and parameters / ALIKE < size < parameters * ALIKE
        ):
            rates.append(6 * meta["tokens"] * size / meta["train_seconds"])
    return median(rates) if rates else next(rate for size, rate in DEFAULT_RATE.items() if parameters <= size)


def measured(file: Path) -> Json:
    """What a node's file says of its making; nothing when it is damaged or has just gone."""
    try:
        return dict(json.loads(file.read_text())["meta"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def weight_count(checkpoint: Checkpoint) -> int:
    """Parameters of a checkpoint, from the size of its weight files and its dtype."""
    width = 4 if checkpoint.dtype == "float32" else 2
    return sum(file.stat().st_size for file in Path(checkpoint.path).glob("*.safetensors")) // width


def train_seconds(root: Path, start: Checkpoint, streams: Sequence[Stream], recipe: Recipe) -> float:
    """Expected seconds of a training run, by the loader's rough size of an example."""
    size, tokens = LOADERS[start.loader].size, 0.0
    for stream in streams:
        sizes = [size(example.payload) for example in stream.examples]
        tokens += recipe.steps * min(stream.batch, len(sizes)) * sum(sizes) / max(1, len(sizes))
    parameters = weight_count(start)
    return 6 * tokens * parameters / known_rate(root, parameters)
