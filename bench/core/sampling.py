"""Choosing some of many rows without chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly_spread(rows: Sequence[T], most: int) -> tuple[T, ...]:
    """At most ``most`` of the rows at even distances from the first one on, in their order; 0 for all."""
    if not most or len(rows) <= most:
        return tuple(rows)
    return tuple(rows[i * len(rows) // most] for i in range(most))
