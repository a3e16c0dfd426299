"""The frame of a campaign: cases that can be repeated alone, what was found in them, and the table at the end."""

from __future__ import annotations

import random
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.ground import Ground

VERDICTS = ("lost", "wrong", "unhelpful")
MOST_LINES = 4
"""Of a case."""


class Skip(Exception):
    """A kind of fault that can't be made here; the text is the reason."""


@dataclass
class Case:
    """One case: a fault, or a short chain of them, with everything random drawn from ``rng``."""

    kind: str
    number: int
    rng: random.Random
    folder: Path
    """Empty at first, and removed at the end."""
    ground: Ground
    what: str = ""
    """What was done, for people."""
    tried: int = 1
    """Faults in it."""
    found: list[tuple[str, str]] = field(default_factory=list)
    """Verdict and what it is about."""

    def lost(self, text: str) -> None:
        """Something that was there or was finished is gone."""
        self.found.append(("lost", text))

    def wrong(self, text: str) -> None:
        """A number, a hash or a page is another one than without the fault."""
        self.found.append(("wrong", text))

    def unhelpful(self, text: str) -> None:
        """A traceback, silence, no remedy, a wrong exit code, a process or a file left behind, or no end."""
        self.found.append(("unhelpful", text))


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    name: str
    short: Sequence[int]
    """Numbers of the cases of the short form."""
    long: int
    attempt: Callable[[Case], None]
    """Makes a case's faults and writes what came of them into it."""
    jobs: int = 2
    """Most cases at a time."""
    needs: Callable[[], None] = lambda: None
    """Raises `Skip` where such faults can't be made."""


@dataclass
class Row:
    """A line of the table."""

    name: str
    tried: int = 0
    lost: int = 0
    wrong: int = 0
    unhelpful: int = 0
    seconds: float = 0.0
    remark: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost or self.wrong or self.unhelpful)


def run_kind(kind: Kind, numbers: Sequence[int], seed: int, ground: Ground, until: float, jobs: int = 2) -> Row:
    """Try the cases of these numbers; what is found is printed at once, with the command that repeats it alone."""
    row, began, lock = Row(kind.name), time.monotonic(), threading.Lock()
    try:
        kind.needs()
    except Skip as reason:
        row.remark = f"skipped: {reason}"
        return row

    def attempt(number: int) -> None:
        if time.monotonic() > until:
            row.remark = "stopped early: its minutes were up"
            return
        case = try_case(kind, number, seed, ground)
        with lock:
            row.tried += case.tried
            for verdict in VERDICTS:
                setattr(row, verdict, getattr(row, verdict) + any(found == verdict for found, _ in case.found))
            for verdict, text in case.found[:MOST_LINES]:
                print(f"{kind.name} {number}: {verdict}: {text} [{case.what}]", flush=True)
            if len(case.found) > MOST_LINES:
                print(f"    and {len(case.found) - MOST_LINES} more")
            if case.found:
                again = f"python -m tests.faults --seed {seed} --only {kind.name} --case {number}"
                print(f"    repeat: {again}", flush=True)

    with ThreadPoolExecutor(max(1, min(kind.jobs, jobs))) as pool:
        for done in [pool.submit(attempt, number) for number in numbers]:
            done.result()
    row.seconds = time.monotonic() - began
    return row


def try_case(kind: Kind, number: int, seed: int, ground: Ground) -> Case:
    """One case, in a folder of its own. An error of the campaign counts as wrong, so that it isn't overlooked."""
    folder = ground.folder / "cases" / f"{kind.name}-{number}"
    folder.mkdir(parents=True)
    case = Case(kind.name, number, random.Random(f"{seed} {kind.name} {number}"), folder, ground)
    try:
        kind.attempt(case)
    except Exception:
        case.wrong(f"the campaign itself failed: {traceback.format_exc()}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return case


def table(rows: Sequence[Row]) -> str:
    """The table, as Markdown."""
    lines = ["| kind | tried | lost | wrong | unhelpful | seconds | |", "| --- | --: | --: | --: | --: | --: | --- |"]
    for row in rows:
        counts = f"{row.tried:,} | {row.lost} | {row.wrong} | {row.unhelpful}"
        lines.append(f"| {row.name} | {counts} | {row.seconds:.0f} | {row.remark} |")
    return "\n".join(lines)
