"""The shape of a transformer and its number of parameters, read without loading it: from a table, a config, a header."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.types import Checkpoint

# The model


@dataclass(frozen=True)
class Shape:
    """The size of a transformer, as far as memory depends on it."""

    hidden: int
    layers: int
    inner: int
    """Width of the feed-forward layer."""
    vocabulary: int
    heads: int
    groups: int
    """Key and value heads."""
    parameters: int
    """A tied head once."""
    gated: bool = True
    """Whether the feed-forward layer has a gate (SwiGLU), and so three matrices."""

    @property
    def block(self) -> int:
        """Parameters of one layer, from its matrices."""
        return (2 + 2 * self.groups / self.heads) * self.hidden**2 + (2 + self.gated) * self.hidden * self.inner  # type: ignore[return-value]

    @property
    def kept(self) -> int:
        """Numbers that a layer keeps for the backward pass, for each token.

        Counted in transformers' Llama under SDPA, whose scores are never kept: both norms keep their input, the
        normalised input and what the matrices read (6 hidden); attention keeps q, k and v, k and v once more when
        heads share them, and its output twice (6 hidden at most); the feed-forward layer keeps gate, up, the activation
        and the product (4 inner, 2 without a gate). The terms are those of Korthikanti et al. 2022 (arXiv 2205.05198,
        section 4.1), less dropout and scores.
        """
        return 12 * self.hidden + (4 if self.gated else 2) * self.inner

    @property
    def outputs(self) -> int:
        """Numbers that the linear layers of a layer put out, for each token."""
        return 3 * self.hidden + 2 * self.hidden * self.groups // self.heads + (1 + self.gated) * self.inner

    def adapters(self, rank: int) -> int:
        """Parameters of low-rank adapters on every linear layer but the head: rank x (inputs + outputs)."""
        shared = self.hidden * self.groups // self.heads
        attention = 2 * 2 * self.hidden + 2 * (self.hidden + shared)
        return rank * self.layers * (attention + (2 + self.gated) * (self.hidden + self.inner))


SHAPES = {
    "smollm2-135m-instruct-q4": Shape(576, 30, 1536, 49152, 9, 3, 134_515_008),
    "smollm2-135m-instruct": Shape(576, 30, 1536, 49152, 9, 3, 134_515_008),
    "pythia-160m": Shape(768, 12, 3072, 50304, 12, 12, 162_322_944, gated=False),
    "olmo-2-1b": Shape(2048, 16, 8192, 100352, 16, 16, 1_484_916_736),
    "olmo-2-7b": Shape(4096, 32, 11008, 100352, 32, 32, 7_298_617_344),
    "llama-3.2-1b-instruct": Shape(2048, 16, 8192, 128256, 32, 8, 1_235_814_400),
    "meta-llama/Llama-3.2-1B": Shape(2048, 16, 8192, 128256, 32, 8, 1_235_814_400),
    "llama-3.1-8b-instruct": Shape(4096, 32, 14336, 128256, 32, 8, 8_030_261_248),
    "meta-llama/Llama-3.1-8B": Shape(4096, 32, 14336, 128256, 32, 8, 8_030_261_248),
    "meta-llama/Meta-Llama-3-8B": Shape(4096, 32, 14336, 128256, 32, 8, 8_030_261_248),
    "llama-2-7b": Shape(4096, 32, 11008, 32000, 32, 32, 6_738_415_616),
    "llama-2-7b-chat": Shape(4096, 32, 11008, 32000, 32, 32, 6_738_415_616),
    "muse-books-llama2-7b": Shape(4096, 32, 11008, 32000, 32, 32, 6_738_415_616),
    "muse-books-llama2-7b-retrain": Shape(4096, 32, 11008, 32000, 32, 32, 6_738_415_616),
}
"""By name: what can be said of a model before it is fetched."""

NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "vocabulary": ("vocab_size",),
    "heads": ("num_attention_heads", "n_head"),
}
"""What configs of transformers call them."""


def known_shape(name: str) -> Shape | None:
    """The shape of a model by its name, with or without a revision; None for one that nobody has entered here."""
    from bench.assets.models import canonical

    return SHAPES.get(canonical(name.partition("@")[0]))


def download_bytes(name: str) -> int:
    """What fetching a model takes: its weights in 16 bits, as nearly all are published; 0 where nobody knows."""
    shape = known_shape(name)
    return 2 * shape.parameters if shape else 0


def shape_in(folder: Path) -> Shape | None:
    """The shape of a model that lies in a folder; None where its config has no such numbers."""
    try:
        config = json.loads((folder / "config.json").read_text())
        config = config.get("text_config", config)
        found = {name: next(int(config[key]) for key in keys if config.get(key)) for name, keys in NAMES.items()}
    except (OSError, ValueError, StopIteration):
        return None
    inner = next((config[key] for key in ("intermediate_size", "n_inner", "ffn_dim") if config.get(key)), 0)
    gated = any("gate" in name for name in tensors(folder))
    return Shape(
        **found,
        inner=inner or 4 * found["hidden"],
        groups=config.get("num_key_value_heads") or found["heads"],
        parameters=parameters_in(folder),
        gated=gated,
    )


def parameters_in(folder: Path) -> int:
    """Parameters of the weights in a folder, from the headers of its files; a head that is tied counts once."""
    total = 0
    tied = is_tied(folder)
    for name, shape in tensors(folder).items():
        size = 1
        for side in shape:
            size *= side
        total += 0 if tied and name == "lm_head.weight" else size
    return total


def is_tied(folder: Path) -> bool:
    """Whether head and embedding are one tensor, as the config says it."""
    try:
        return bool(json.loads((folder / "config.json").read_text()).get("tie_word_embeddings"))
    except (OSError, ValueError):
        return False


def tensors(folder: Path) -> dict[str, Sequence[int]]:
    """Name and shape of every tensor in a folder's safetensors; no weight is read."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():  # what else lies beside the shards is no part of the model
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        names = [file.name for file in sorted(folder.glob("*.safetensors"))]
    found: dict[str, Sequence[int]] = {}
    for name in names:
        with (folder / name).open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        found |= {key: entry["shape"] for key, entry in header.items() if key != "__metadata__"}
    return found


def weight_count(checkpoint: Checkpoint) -> int:
    """Parameters of a checkpoint (`parameters_in`)."""
    return parameters_in(Path(checkpoint.path))
