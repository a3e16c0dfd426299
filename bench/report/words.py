"""Texts and numbers of records as the report's JSON holds them."""

from __future__ import annotations

from bench.core.texts import one_line, shown
from bench.records.markdown import FOLDERS

LONGEST = 2000
"""Characters of a text of a model."""


def tidy(text: str) -> str:
    """A record's text on one line, without a machine's folders; the page shows it as text whatever is in it."""
    return FOLDERS.sub("…/", one_line(text))


def last_line(reason: str) -> str:
    """The sentence of a reason: of a traceback its last line."""
    lines = [line for line in reason.splitlines() if line.strip()]
    return tidy(lines[-1]) if lines else "no reason was recorded"


def quoted(text: str) -> str:
    """What a model or a data set says, on its own lines, cut where it goes on for pages."""
    return shown(text if len(text) <= LONGEST else text[:LONGEST] + " …")


def short(value: float) -> float:
    """A number for a picture: six digits are more than it shows."""
    return float(f"{value:.6g}")
