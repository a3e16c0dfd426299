"""Reads TensorBoard's event files as it reads them itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read(folder: Path) -> Any:
    """Everything in a run's event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    return events


def text_of(events: Any, tag: str) -> str:
    """A text that was written."""
    (event,) = events.Tensors(tag)
    return str(event.tensor_proto.string_val[0].decode())


def folder_of(out: Path, name: str) -> Path:
    """The folder of a run's event files."""
    (found,) = (out / "tensorboard").glob(f"*/{name}*")
    return found
