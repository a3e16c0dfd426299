"""Errors that a user can cause, and the two ways of saying that something cannot be had."""

from __future__ import annotations

import difflib
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path


class UserError(Exception):
    """One or more mistakes of the user, each a sentence with its remedy; the command line prints them and exits 2."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = problems


UNUSABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What computing with data of the right form raises where they say something else than is expected."""


class Absent(Exception):
    """A score that can't be had; the text is the reason, which goes into the record in the score's place."""


class Unmet(Exception):
    """A need of a method that the task cannot meet: the run is skipped, and the text is the reason."""


class Busy(Exception):
    """Another process holds the lease on a node that this run needs; try again later. ``holder`` says who."""

    def __init__(self, label: str, key: str = "", holder: str = "") -> None:
        super().__init__(label, key, holder)
        self.label, self.key, self.holder = label, key, holder


def shorten_reason(error: object) -> str:
    """The first line of what a library says, without a full stop and without the folders of this machine."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    words = [Path(word.strip("'\"`")).name if word.strip("'\"`").startswith("/") else word for word in line.split()]
    return textwrap.shorten(" ".join(words), 200, placeholder=" ...").rstrip(".")


_kept: ContextVar[list[str] | None] = ContextVar("kept", default=None)
"""The mistakes of the innermost `collecting` block."""


@contextmanager
def collecting() -> Iterator[list[str]]:
    """Keep the mistakes of a block, and raise one `UserError` with all of them at its end, each once.

    Yields the list of those so far. What is reported by `report_mistake` doesn't end the block; a `UserError` does.
    """
    problems: list[str] = []
    token = _kept.set(problems)
    try:
        with mistakes_in():
            yield problems
    finally:
        _kept.reset(token)
    raise_problems(list(dict.fromkeys(problems)))


def report_mistake(*problems: str) -> None:
    """Report mistakes of the user: kept by the `collecting` block around it, raised where there is none."""
    kept = _kept.get()
    if kept is None:
        raise_problems(problems)
    else:
        kept.extend(problems)


@contextmanager
def mistakes_in(part: str = "") -> Iterator[None]:
    """Report what a block raises as `UserError` with the other mistakes, ``part`` before each sentence, and go on."""
    try:
        yield
    except UserError as error:
        report_mistake(*(f"{part}{problem}" for problem in error.problems))


def raise_problems(problems: Sequence[str]) -> None:
    """Raise one `UserError` with all of ``problems``; nothing happens where there are none."""
    if problems:
        raise UserError(*problems)


@cache
def say_once(text: str) -> None:
    """Print a remark for the user on stderr, the first time that this process has it."""
    print(f"NOTE: {text}", file=sys.stderr, flush=True)


def unknown_name(what: str, name: str, known: Iterable[str], listing: str = "") -> str:
    """A sentence for an unknown name: the nearest known one, then all of them, then the command that lists them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    where = f" (`python -m bench ls {listing}` describes them)" if listing else ""
    return f"Unknown {what} '{name}'.{hint} Known: {', '.join(names)}{where}."
