"""Markdown of the studies' pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from bench.records.leaderboard import number


def markdown_table(head: Sequence[str], body: Iterable[Sequence[str]], rule: Sequence[str] = ()) -> str:
    """A Markdown table; ``rule`` has the alignment of each column, such as ``---:``, all left where it is empty."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule or ["---"] * len(head), *body))


def mean_and_range(values: Sequence[float]) -> str:
    """``mean (smallest–largest)``, the mean alone where all are equal, and a dash for no values."""
    if not values:
        return "—"
    mean, low, high = number(fmean(values)), min(values), max(values)
    return mean if low == high else f"{mean} ({number(low)}–{number(high)})"
