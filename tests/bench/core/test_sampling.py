"""Rows at even distances."""

from __future__ import annotations

from bench.core.sampling import evenly_spread


def test_rows_are_evenly_spread_and_nought_takes_all() -> None:
    """Row i of 4 out of 10 is number i * 10 // 4: 0, 2, 5, 7."""
    assert evenly_spread(range(10), 4) == (0, 2, 5, 7)
    assert evenly_spread(range(3), 4) == (0, 1, 2) == evenly_spread(range(3), 0)
