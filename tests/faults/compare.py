"""The verdicts that several kinds of faults share: what is gone, what is another one, what was said, what was left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from bench.core.types import Json
from tests.faults.campaign import Case
from tests.faults.ground import SCENES, Done, faults_of, leftovers, marked, read_facts

GRACE_SECONDS = 12.0
"""In which the processes of a command that was ended must be gone."""
OLD_SECONDS = 3600.0


def judge(case: Case, done: Sequence[Done], codes: Sequence[int] = (0,)) -> None:
    """What the last of some commands may end with; the others have ended with 0."""
    for each in done:
        for fault in faults_of(each, codes):
            case.unhelpful(fault)


def judge_facts(case: Case, expected: Json, folder: Path, besides: Collection[str] = (), more: bool = False) -> None:
    """Everything is there and as it was, but for files ``besides``; nothing else is, unless there may be ``more``."""
    found = read_facts(folder)
    for name, fact in expected.items():
        if name in besides or found.get(name) == fact:
            continue
        if name not in found:
            case.lost(f"{name} is gone")
        elif str(found[name]).startswith("unreadable"):
            case.lost(f"{name} is {found[name]}")
        else:
            case.wrong(f"{name} is another one: {difference(fact, found[name])}")
    for name in sorted(found.keys() - expected.keys() - set(besides)) if not more else ():
        case.wrong(f"{name} is there, and isn't otherwise")


def judge_end(
    case: Case, name: str, folder: Path, fresh: bool = False, besides: Callable[[], Collection[str]] = tuple
) -> None:
    """The scene's commands, undisturbed, end with 0 and with what they end with otherwise, and leave nothing behind."""
    make_old(folder)
    done = case.ground.redo(SCENES[name], folder, fresh, case.folder.name)
    before = len(case.found)
    judge(case, done)
    if len(case.found) == before:
        judge_facts(case, case.ground.made(name).facts, folder, besides())
        for left in leftovers(folder):
            case.unhelpful(f"{left} is left behind")


def judge_processes(case: Case) -> None:
    """None of the case's processes outlives its command."""
    until = time.monotonic() + GRACE_SECONDS
    while (left := marked(case.folder.name)) and time.monotonic() < until:
        time.sleep(0.1)
    for process in left:
        case.unhelpful(f"a process outlives its command: {' '.join(process.cmdline())[:150]}")
        process.kill()


def make_old(folder: Path) -> None:
    """Let what dead processes left be as old as it must be to be swept."""
    for name in leftovers(folder):
        past = time.time() - OLD_SECONDS
        os.utime(folder / name, (past, past), follow_symlinks=False)


def difference(one: object, other: object, where: str = "") -> str:
    """The first place at which two facts differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            if one.get(name) != other.get(name):
                return difference(one.get(name), other.get(name), f"{where}.{name}")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, (first, second) in enumerate(zip(one, other, strict=True)):
            if first != second:
                return difference(first, second, f"{where}[{i}]")
    return f"{where or 'its content'}: {str(one)[:80]} -> {str(other)[:80]}"
