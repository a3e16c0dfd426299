"""Markdown of the studies' pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], body: Iterable[Sequence[str]], rule: Sequence[str] = ()) -> str:
    """A Markdown table; ``rule`` has the alignment of each column, such as ``---:``, all left where it is empty."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule or ["---"] * len(head), *body))
