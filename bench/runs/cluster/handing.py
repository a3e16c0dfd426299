"""Handing jobs over undisturbed: one command at a time for a folder of records, and each to its end."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.runs.cluster.submission import FOLDER
from bench.runs.folder import is_locked, take_lock

LOCK, LOCK_SECONDS, SOON_SECONDS = "lock", 120.0, 1.0
"""The lock's name, how long another command is waited for, and how long in silence."""
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def one_at_a_time(out: Path, say: Callable[[str], None]) -> Iterator[None]:
    """A block that no other command is in for the same records; one that stands still in it is passed after a while."""
    place = out / FOLDER / LOCK
    place.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        began = time.monotonic()
        if not take_lock(handle, fcntl.LOCK_EX, SOON_SECONDS) and time.monotonic() - began >= SOON_SECONDS:
            say(f"another command hands over jobs for these records; it is waited for, {LOCK_SECONDS:.0f} s at most")
            take_lock(handle, fcntl.LOCK_EX, LOCK_SECONDS)
        yield
    finally:
        os.close(handle)


def is_under_way(out: Path) -> bool:
    """Whether some command is handing over jobs for these records now."""
    with suppress(OSError):  # nobody could hand anything over there
        return is_locked(out / FOLDER / LOCK)
    return False


@contextmanager
def holding_signals() -> Iterator[None]:
    """A block that signals wait for the end of, in this process and in the programs that it starts there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before: dict[int, Any] = {number: signal.getsignal(number) for number in ENDINGS}
    before = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    for number in before:  # another thread might take one that is blocked here
        signal.signal(number, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, before)  # what programs inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)
