"""Texts of records, models and plug-ins, made fit to be shown."""

from __future__ import annotations

import re

UNSEEN = re.compile(r"[^\S ]|[^ -~\u00a1-\u00ac\u00ae-\u05ff]")
"""What may be no sign that a reader sees: looked at one by one."""


def one_line(text: str) -> str:
    """``text`` on one line; what has no shape, such as escapes of a terminal or turns of direction, becomes \ufffd.

    Half a character, which no terminal can be told, is named.
    """
    return UNSEEN.sub(_seen, " ".join(text.split()))


def shown(text: str) -> str:
    """``text`` on the lines that it has, each as `one_line` but for the blanks in it."""
    return "\n".join(UNSEEN.sub(_seen, line) for line in text.splitlines())


def _seen(found: re.Match[str]) -> str:
    if found[0].isprintable():
        return found[0]
    return f"\\u{ord(found[0]):04x}" if "\ud800" <= found[0] <= "\udfff" else "\ufffd"
