"""Opening a checkpoint, by the name of its loader; and the seal that keeps the oracle shut while a method runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core import distributed
from bench.core.contracts import Opened
from bench.core.hashing import hash_checkpoint
from bench.core.typed_toml import named_object
from bench.core.types import Checkpoint

_sealed: set[str] = set()
"""Content hashes and folders."""


class Sealed(Exception):
    """A method tried to open a checkpoint that it must not see."""


@contextmanager
def seal(checkpoints: Collection[Checkpoint]) -> Iterator[None]:
    """While this lasts, opening one of these checkpoints, by its hash or by its folder, raises `Sealed`."""
    added = {mark for checkpoint in checkpoints for mark in marks(checkpoint)} - _sealed
    _sealed.update(added)
    try:
        yield
    finally:
        _sealed.difference_update(added)


def open_checkpoint(checkpoint: Checkpoint, device: str = "cpu") -> Opened:
    """Load a checkpoint with its own loader, in the dtype that it names."""
    check_seal(checkpoint)
    return LOADERS[checkpoint.loader].open(checkpoint, device)


def open_for_training(checkpoint: Checkpoint, device: str = "cpu") -> Opened:
    """Load a checkpoint as `open_checkpoint` does; of several processes each loads its part, if the loader can do that."""
    check_seal(checkpoint)
    loader = LOADERS[checkpoint.loader]
    return loader.open_in_parts(checkpoint, device) if distributed.world() > 1 else loader.open(checkpoint, device)


def check_seal(checkpoint: Checkpoint) -> None:
    """Raise `Sealed` for a checkpoint that is shut at the moment."""
    if _sealed.intersection(marks(checkpoint)):
        raise Sealed("a method must not open the oracle; it sees the target, and the history if it declares the need")


def marks(checkpoint: Checkpoint) -> tuple[str, str]:
    """Marks that a seal knows a checkpoint by: the hash that it states, and where it really lies."""
    return checkpoint.hash, str(Path(checkpoint.path).resolve())


def estimate_tokens(payload: Mapping[str, Any]) -> float:
    """Roughly the tokens of a text that isn't tokenised yet: a word is taken as 1.3, and the template as four words."""
    return 1.3 * (len(f"{payload['prompt']} {payload['answer']}".split()) + 4)


@dataclass(frozen=True)
class Loader:
    """The way in which one kind of model is opened."""

    opens: str
    """``module:function`` that opens a checkpoint on a device, resolved on use: (checkpoint, device) -> `Opened`."""
    size: Callable[[Mapping[str, Any]], float] = lambda payload: 1.0
    """Tokens of an example, roughly, for estimates before anything is opened."""
    opens_parts: str = ""
    """``module:function`` that opens a part on each of several processes; empty: each opens the whole, to be split later."""

    def open(self, checkpoint: Checkpoint, device: str) -> Opened:
        """The checkpoint's model and coder, on the device."""
        opened: Opened = named_object(self.opens)(checkpoint, device)
        return opened

    def open_in_parts(self, checkpoint: Checkpoint, device: str) -> Opened:
        """This process's part of the model, and its coder; a whole one of a kind that is small."""
        opened: Opened = named_object(self.opens_parts or self.opens)(checkpoint, device)
        return opened


LOADERS = {
    "causal-lm": Loader(
        "bench.engines.causal_lm:open_causal_lm", estimate_tokens, "bench.engines.causal_lm:open_in_parts"
    ),
    "classifier": Loader("bench.lab.networks:open_network"),
}
"""By the name that a checkpoint gives; a new kind of model adds its own."""


def checkpoint_at(folder: Path, label: str, loader: str = "causal-lm", dtype: str = "float32") -> Checkpoint:
    """A checkpoint of what lies in ``folder`` now."""
    return Checkpoint(str(folder), hash_checkpoint(folder), loader, dtype, label)
