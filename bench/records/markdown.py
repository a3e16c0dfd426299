"""Markdown of pages: tables, numbers and quantities as they stand in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]], rule: str = "---") -> str:
    """A table in Markdown, its first column to the left; ``rule`` says where the others stand, such as ``--:``."""
    rules = ["---", *(rule for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rules, *lines))


def mean_and_range(values: Sequence[float]) -> str:
    """``mean (smallest–largest)``, the mean alone where all are equal, and a dash for no values."""
    if not values:
        return "—"
    mean, low, high = format_number(fmean(values)), min(values), max(values)
    return mean if low == high else f"{mean} ({format_number(low)}–{format_number(high)})"


def format_scaled(value: float | None, unit: str) -> str:
    """A quantity with three digits and a decimal prefix: ``1.23 TFLOP``."""
    if value is None:
        return "—"
    power = 0
    while abs(value) / 1000**power >= 999.5 and power < len(PREFIXES) - 1:
        power += 1
    return f"{value / 1000**power:.3g} {PREFIXES[power]}{unit}".rstrip()


def format_duration(seconds: float | None) -> str:
    """In the unit that reads best."""
    if seconds is None:
        return "—"
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def format_number(value: float) -> str:
    """``value`` with about three digits; small ones in powers of ten, as p-values of 1e-19 are read here."""
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.0f}" if size >= 99.95 else f"{value:.1f}" if size >= 9.9995 else f"{value:.3f}"
