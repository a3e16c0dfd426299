"""The arithmetic engine: a weighted sum of checkpoints, tensor by tensor, from safetensors to safetensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bench.errors import UserError
from bench.types import Checkpoint

SHARD_BYTES = 2_000_000_000
"""A sum is written in shards of about this size, so that it never stands in memory whole."""


def combine(terms: Sequence[tuple[float, Checkpoint]], out: Path) -> None:
    """Write ``sum_i c_i * theta_i`` to ``out``, in the dtype of the first term's tensors.

    Accumulated in float32 (float64 tensors in float64) and rounded once. A tied weight is stored once in the files
    and so is summed once. Integer and bool tensors (buffers) are copied from the first term. Config and tokenizer come
    from the first term too. Raises `UserError` when names or shapes don't match.
    """
    readers = [(coefficient, TensorFiles(Path(checkpoint.path))) for coefficient, checkpoint in terms]
    check_match(readers, [checkpoint.label or Path(checkpoint.path).name for _, checkpoint in terms])
    out.mkdir(parents=True, exist_ok=True)
    first = readers[0][1]
    shard: dict[str, torch.Tensor] = {}
    shards: list[list[str]] = []
    size = total = 0
    for name in first.names:
        tensor = weighted_sum([(coefficient, reader.get(name)) for coefficient, reader in readers])
        shard[name] = tensor
        size += tensor.nbytes
        total += tensor.nbytes
        if size >= SHARD_BYTES:
            shards.append(write_shard(shard, out, len(shards)))
            shard, size = {}, 0
    if shard:
        shards.append(write_shard(shard, out, len(shards)))
    name_shards(shards, total, out)
    copy_companions(first.folder, out)


def weighted_sum(terms: Sequence[tuple[float, torch.Tensor]]) -> torch.Tensor:
    """Sum of coefficient times tensor, rounded once to the first tensor's dtype."""
    first = terms[0][1]
    if not first.is_floating_point():
        return first
    wide = torch.float64 if first.dtype == torch.float64 else torch.float32
    total = torch.zeros(first.shape, dtype=wide)
    for coefficient, tensor in terms:
        total.add_(tensor.to(wide), alpha=coefficient)
    return total.to(first.dtype)


class TensorFiles:
    """The tensors of a checkpoint folder by name, opened lazily, whichever file they lie in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise UserError(f"No safetensors in '{folder.name}': weights are read from safetensors only.")
        self.where: dict[str, Any] = {}
        for file in files:
            handle = safe_open(str(file), framework="pt")
            self.where.update(dict.fromkeys(handle.keys(), handle))
        self.names = sorted(self.where)

    def get(self, name: str) -> torch.Tensor:
        """One tensor."""
        tensor: torch.Tensor = self.where[name].get_tensor(name)
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape, without reading it."""
        return tuple(self.where[name].get_slice(name).get_shape())


def check_match(readers: Sequence[tuple[float, TensorFiles]], labels: Sequence[str]) -> None:
    """Raise `UserError` when a term's tensors have other names or shapes than the first term's."""
    first = readers[0][1]
    problems: list[str] = []
    for (_, reader), label in zip(readers[1:], labels[1:], strict=True):
        if odd := sorted(set(first.names) ^ set(reader.names)):
            problems.append(
                f"'{labels[0]}' and '{label}' don't hold the same tensors: {len(odd)} differ, the first is '{odd[0]}'."
            )
            continue
        for name in first.names:
            if first.shape(name) != reader.shape(name):
                problems.append(
                    f"Tensor '{name}' has shape {first.shape(name)} in '{labels[0]}' and {reader.shape(name)} in "
                    f"'{label}'. A resized embedding is the usual cause: use checkpoints with one vocabulary."
                )
                break
    if problems:
        raise UserError(*problems)


def write_shard(tensors: Mapping[str, torch.Tensor], out: Path, number: int) -> list[str]:
    """Write one shard under a provisional name; returns the names in it."""
    save_file(dict(tensors), out / f"shard-{number}.safetensors", metadata={"format": "pt"})
    return list(tensors)


def name_shards(shards: Sequence[Sequence[str]], total: int, out: Path) -> None:
    """Give the shards the names that transformers looks for, with an index when there are several."""
    if len(shards) == 1:
        (out / "shard-0.safetensors").rename(out / "model.safetensors")
        return
    where: dict[str, str] = {}
    for number, names in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (out / f"shard-{number}.safetensors").rename(out / file)
        where.update(dict.fromkeys(names, file))
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


def copy_companions(source: Path, out: Path) -> None:
    """Config, generation config and tokenizer, as far as they are there."""
    for pattern in ("*.json", "*.jinja", "*.model", "*.txt"):
        for file in source.glob(pattern):
            if not file.name.endswith(".index.json") and file.name != "node.json":
                shutil.copyfile(file, out / file.name)


def distance(one: Checkpoint, other: Checkpoint) -> float:
    """Euclidean distance of all floating-point weights, summed in float64; tied weights once."""
    a, b = TensorFiles(Path(one.path)), TensorFiles(Path(other.path))
    check_match([(1.0, a), (1.0, b)], [one.label, other.label])
    square = 0.0
    for name in a.names:
        tensor = a.get(name)
        if tensor.is_floating_point():
            square += float((tensor.double() - b.get(name).double()).square().sum())
    return square**0.5
