"""A GPU works on while the host prepares what comes next: nothing here waits for it but `Held.fetch`, once at the end.

A batch is bounded by tokens and bytes, and a GPU's own memory says how many times a CPU's bounds it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from bench.core.machine import batch_factor

T = TypeVar("T")


def send(tensor: Tensor, device: str | torch.device) -> Tensor:
    """A tensor of the host's on the device; to a GPU from pinned memory, so that nobody waits for the copy."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def send_numbers(numbers: Iterable[Any], device: str | torch.device) -> Tensor:
    """Whole numbers, or rows of them, as a tensor on the device."""
    return send(torch.tensor(list(numbers), dtype=torch.long), device)


def factor_of(model: Any) -> int:
    """How many times a CPU's bounds on a batch the model's device takes; on a CPU 1."""
    if model.device.type != "cuda":
        return 1
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return batch_factor(torch.cuda.get_device_properties(model.device).total_memory, weights)


@dataclass
class Held(Generic[T]):
    """Numbers of texts, left on the device until all are there."""

    keys: list[T] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    parts: list[Tensor] = field(default_factory=list)

    def add(self, keys: Iterable[T], lengths: Sequence[int], values: Tensor) -> None:
        """Hold the values of some keys, which lie one behind the other in ``values``, as many as ``lengths`` say."""
        self.keys += keys
        self.lengths += lengths
        self.parts.append(values)

    def fetch(self) -> dict[T, list[Any]]:
        """Each key's numbers, in one copy to the host."""
        numbers = iter(torch.cat(self.parts).tolist() if self.parts else [])
        return {key: [next(numbers) for _ in range(n)] for key, n in zip(self.keys, self.lengths, strict=True)}
