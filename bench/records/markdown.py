"""Markdown of pages: what may stand in them of a record's texts, tables, numbers and quantities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from statistics import fmean

from bench.core.texts import one_line

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
HUGE = 1e7
"""From here on a number is written in powers of ten."""
LINKS = re.compile(r"\](?=[(\[:])")
"""Where a link, a picture or the definition of one would go on."""
ESCAPES = re.compile(r"\\(?=[!-/:-@\[-`{-~]|$)")
"""A backslash that would take away the meaning of what follows."""
BARS = re.compile(r"(?<!\\)((?:\\\\)*)\|")
"""A bar that would begin another cell: no backslash is left for it."""
ENTITIES = re.compile(r"&(?=#?\w+;)")
MARKS = re.compile(
    r"[`*$~]|(?<![^\W_])_|_(?![^\W_])|(?<=:)/(?=/)|(?<=\bwww)\.|^[#>+=-]|(?<=^\d)[.)]|(?<=^\d\d)[.)]", re.IGNORECASE
)
"""Code, emphasis, formulas and addresses, and what makes a heading, a quotation or a list at the beginning."""
FOLDERS = re.compile(r"(?<![\w.~])~?/(?:[^\s/'\",:;()…]+/)+")
"""The folders of a path of the machine that wrote it."""


def plain(text: str) -> str:
    """``text`` as it may stand anywhere in a page: one line that says itself and nothing else, without a machine's folders."""
    text = ESCAPES.sub(r"\\\\", FOLDERS.sub("…/", one_line(text)))
    return as_cell(MARKS.sub(r"\\\g<0>", ENTITIES.sub("&amp;", text)))


def as_cell(text: str) -> str:
    """``text`` on one line, its own markup left, without tags, links, or another cell; twice is the same as once."""
    text = BARS.sub(r"\1\|", one_line(text).replace("<", "&lt;"))
    return LINKS.sub(r"]\\", text)


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]], rule: str = "---") -> str:
    """A table in Markdown, its first column to the left; ``rule`` says where the others stand, such as ``--:``."""
    rules = ["---", *(rule for _ in head[1:])]
    return "\n".join(f"| {' | '.join(map(as_cell, cells))} |" for cells in (head, rules, *lines))


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
    """``value`` with about three digits; in powers of ten small ones, as p-values of 1e-19 are read here, and huge ones."""
    size = abs(value)
    if size == 0:
        return "0"
    if size >= HUGE:
        return f"{value:.2e}".replace("e+0", "e").replace("e+", "e")
    if size < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.0f}" if size >= 99.95 else f"{value:.1f}" if size >= 9.9995 else f"{value:.3f}"
