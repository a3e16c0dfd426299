"""How training computes: dtype of the weights, autocast, adapters, rows of a forward pass."""

from __future__ import annotations

from dataclasses import dataclass

# How training computes


@dataclass(frozen=True)
class Way:
    """How training computes, as far as memory and time depend on it."""

    dtype: str = "float32"
    autocast: bool = False
    lora: int = 0
    micro: int = 8
    checkpointing: bool = False
    world: int = 1
    """Processes under torchrun: each holds its part of weights, gradients and moments."""
    device: str = "cpu"

    @property
    def width(self) -> int:
        """Bytes of a weight, in memory and on disk."""
        return 2 if self.dtype == "bfloat16" else 4

    @property
    def operations(self) -> int:
        """For each parameter and token: 2 forward and 4 backward; frozen weights need no gradient, and checkpointing
        goes forward twice.
        """
        return 6 - 2 * bool(self.lora) + 2 * self.checkpointing


MICRO = 8
"""Rows of a real model's forward pass, where neither the user nor the model's entry says otherwise."""

DTYPES = ("float32", "bfloat16")
