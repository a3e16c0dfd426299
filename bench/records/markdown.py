"""Markdown of pages: what may stand in them of a record's texts, tables, numbers and quantities."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from bench.core.texts import one_line
from bench.records.tables import TableCell

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
NOTHING = "–"
"""In the place of a number that there isn't."""
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
BRACKETS, OPEN_BRACKET = re.compile(r"(?<!\\)[\[\]]"), r"\\\g<0>"
"""What would begin or end the text of a link, and how it stands in one."""
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


def as_code(text: str) -> str:
    """``text`` as code: what a reader may copy."""
    quoted = as_cell(text).replace("`", "'")
    return f"`{quoted}`"


def as_link(text: str, to: str) -> str:
    """A link with a record's text; ``to`` is ours."""
    return f"[{BRACKETS.sub(OPEN_BRACKET, plain(text))}]({to})"


def bullet_list(title: str, items: Sequence[str]) -> str:
    """A list under a line; empty without items."""
    return "\n".join([title, "", *(f"- {item}" for item in items)]) if items else ""


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]], rule: str = "---") -> str:
    """A table in Markdown, its first column to the left; ``rule`` says where the others stand, such as ``--:``."""
    rules = ["---", *(rule for _ in head[1:])]
    return "\n".join(f"| {' | '.join(map(as_cell, cells))} |" for cells in (head, rules, *lines))


def goal_arrow(goal: str | float) -> str:
    """The goal of a score as an arrow: ``↑``, ``↓``, ``→oracle``, ``→0``; empty where it has none."""
    if goal == "":
        return ""
    return {"up": "↑", "down": "↓", "oracle": "→oracle"}.get(str(goal)) or f"→{goal:g}"


def seed_list(seeds: Iterable[int]) -> str:
    """``seed 0``, ``seeds 0, 1``: the seeds in words."""
    numbers = [str(seed) for seed in seeds]
    return f"seed{'s' * (len(numbers) > 1)} {', '.join(numbers)}"


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


def format_interval(low: float, high: float) -> str:
    """The ends of an interval: ``[0.91, 0.98]``."""
    return f"[{format_number(low)}, {format_number(high)}]"


def format_amount(value: float) -> str:
    """Tokens and seconds: whole, with thousands apart, above a hundred."""
    if abs(value) >= HUGE**2:
        return format_number(value)
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def format_cell(cell: TableCell | None, seeds: int, say: Callable[[float], str] = format_number) -> str:
    """``mean [95% interval]``, or ``mean (min–max)`` without one; with n where it is not the row's number of seeds."""
    if cell is None:
        return NOTHING
    mean = say(cell.mean)
    few = f" n={cell.n}" if cell.n != seeds else ""
    ends = cell.interval or (cell.low, cell.high)
    if {say(end) for end in ends} == {mean}:
        return mean + few
    if cell.interval:
        return f"{mean} [{say(ends[0])}, {say(ends[1])}]{few}"
    to = "–" if cell.low >= 0 else " to "
    return f"{mean} ({say(cell.low)}{to}{say(cell.high)}){few}"
