"""Markdown of the studies' pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from bench.records.leaderboard import number

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def markdown_table(head: Sequence[str], body: Iterable[Sequence[str]], rule: Sequence[str] = ()) -> str:
    """A Markdown table; ``rule`` has the alignment of each column, such as ``---:``, all left where it is empty."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule or ["---"] * len(head), *body))


def mean_and_range(values: Sequence[float]) -> str:
    """``mean (smallest–largest)``, the mean alone where all are equal, and a dash for no values."""
    if not values:
        return "—"
    mean, low, high = number(fmean(values)), min(values), max(values)
    return mean if low == high else f"{mean} ({number(low)}–{number(high)})"


def scaled(value: float | None, unit: str) -> str:
    """A quantity with three digits and a decimal prefix: ``1.23 TFLOP``."""
    if value is None:
        return "—"
    power = 0
    while abs(value) / 1000**power >= 999.5 and power < len(PREFIXES) - 1:
        power += 1
    return f"{value / 1000**power:.3g} {PREFIXES[power]}{unit}".rstrip()


def duration(seconds: float | None) -> str:
    """In the unit that reads best."""
    if seconds is None:
        return "—"
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
