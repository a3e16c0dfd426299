"""Checkpoint folders of a few tensors, made and read by tests of the arithmetic."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bench.core.types import Checkpoint
from bench.engines.arithmetic.sums import (
    combine,
)

Tensors = Mapping[str, torch.Tensor]


def folder(path: Path, *files: Tensors) -> Checkpoint:
    """A checkpoint with one safetensors file for each of ``files``."""
    path.mkdir()
    for i, tensors in enumerate(files):
        save_file(dict(tensors), path / f"part-{i}.safetensors")
    (path / "config.json").write_text(json.dumps({"of": path.name}))
    return Checkpoint(str(path), path.name, label=path.name)


def vector(*values: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


def drawn(path: Path, seed: int, dtype: torch.dtype = torch.float32, shards: int = 1, **shapes: int) -> Checkpoint:
    """Random tensors of these numbers of entries, spread over files."""
    torch.manual_seed(seed)
    tensors = {name: torch.randn(count).to(dtype) for name, count in shapes.items()}
    return folder(path, *({name: tensors[name] for name in list(shapes)[i::shards]} for i in range(shards)))


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder."""
    return {name: tensor for file in sorted(path.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same_files(one: Path, other: Path) -> None:
    """Two folders with the same names and bytes."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def summed(terms: list[tuple[float, Checkpoint]], out: Path) -> dict[str, torch.Tensor]:
    combine(terms, out)
    return dict(load_file(out / "model.safetensors"))
