"""The shape of a transformer and its number of parameters, read without loading it: from a table, a config, a header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.assets.folders import read_config, read_index
from bench.assets.headers import TensorEntry, read_header
from bench.assets.models import canonical_name
from bench.assets.tensors import HEAD
from bench.core.errors import UserError
from bench.core.files import read_toml
from bench.core.types import Checkpoint


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


def read_shapes() -> dict[str, Shape]:
    """The shapes of ``data/shapes.toml`` by known name or hub id: what can be said of a model before it is fetched."""
    found: dict[str, Shape] = {}
    for about in read_toml(Path(__file__).parent / "data" / "shapes.toml").values():
        models = about.pop("models")
        found |= dict.fromkeys(models, Shape(**about))
    return found


SHAPES = read_shapes()

NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "vocabulary": ("vocab_size",),
    "heads": ("num_attention_heads", "n_head"),
}
"""What configs of transformers call them."""


def known_shape(name: str) -> Shape | None:
    """The shape of a model by its name, with or without a revision; None for one that nobody has entered here."""
    return SHAPES.get(canonical_name(name.partition("@")[0]))


def download_bytes(name: str) -> int:
    """Bytes that fetching a model takes: its weights in 16 bits, as nearly all are published; 0 where nobody knows."""
    shape = known_shape(name)
    return 2 * shape.parameters if shape else 0


def read_shape(folder: Path) -> Shape | None:
    """The shape of a model that lies in a folder; None where its config has no such numbers."""
    try:
        config = read_config(folder)
        config = config.get("text_config", config)
        found = {name: next(int(config[key]) for key in keys if config.get(key)) for name, keys in NAMES.items()}
    except (OSError, ValueError, UserError, StopIteration):
        return None
    inner = next((config[key] for key in ("intermediate_size", "n_inner", "ffn_dim") if config.get(key)), 0)
    gated = any("gate" in name for name in read_entries(folder))
    return Shape(
        **found,
        inner=inner or 4 * found["hidden"],
        groups=config.get("num_key_value_heads") or found["heads"],
        parameters=parameters_in_folder(folder),
        gated=gated,
    )


def parameters_in_folder(folder: Path) -> int:
    """Parameters of the weights in a folder, from the headers of its files; a head that is tied counts once."""
    entries = read_entries(folder)
    if is_tied(folder):
        entries.pop(HEAD, None)
    return sum(entry.count for entry in entries.values())


def is_tied(folder: Path) -> bool:
    """Whether head and embedding are one tensor, as the config says it."""
    try:
        return bool(read_config(folder).get("tie_word_embeddings"))
    except (OSError, UserError):
        return False


def read_entries(folder: Path) -> dict[str, TensorEntry]:
    """Every tensor of a folder's safetensors by name; no weight is read."""
    names = read_index(folder)  # what else lies beside the shards is no part of the model
    found: dict[str, TensorEntry] = {}
    for name in names or [file.name for file in sorted(folder.glob("*.safetensors"))]:
        found |= read_header(folder / name)[1]
    return found


def count_weights(checkpoint: Checkpoint) -> int:
    """Parameters of a checkpoint (`parameters_in_folder`)."""
    return parameters_in_folder(Path(checkpoint.path))
