"""The folder of a store: what is made in it, and how what is damaged is set aside, by name and with a word to the user."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.core.errors import UserError, say_once
from bench.core.files import DAMAGED

LOCK_SECONDS = 10.0
"""How long a lock is waited for: whoever holds one needs milliseconds, or is a process that was stopped just there."""
NO_ENTRY = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENXIO,
    errno.ENODEV,
    errno.EIO,
    errno.ENAMETOOLONG,
}
"""Errors of a place that holds nothing, or nothing of the kind that belongs there; other errors are the machine's."""
CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}


class StoreFolder:
    """A store's folder; ``say`` tells the user what was set aside."""

    def __init__(self, root: Path, say: Callable[[str], None] = say_once) -> None:
        self.root, self.say = root, say

    def make(self, *names: str) -> Path:
        """A folder below the store, made where it isn't there; what stands in its place is set aside."""
        place = self.root
        with self.told_closed():
            if not place.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            for name in names:
                place = place / name
                if not place.is_dir():
                    with lock_folder(self.root):
                        if not place.is_dir():
                            self.set_aside(place)
                        place.mkdir(exist_ok=True)
        return place

    @contextmanager
    def told_closed(self) -> Iterator[None]:
        """One sentence where something in the block can't be written because the store may only be read."""
        try:
            yield
        except OSError as error:
            if error.errno not in CLOSED:
                raise
            raise UserError(
                f"Nothing can be written into the store '{self.root}' ({error.strerror}), and something must be built: "
                "choose another with --store or MSA_BENCH_STORE."
            ) from None

    def set_aside(self, place: Path, what: str = "") -> None:
        """Move what is damaged into ``damaged/`` and say so; nothing happens where nothing is."""
        if not os.path.lexists(place):
            return
        away = self.root / DAMAGED
        if not away.is_dir():
            with suppress(FileNotFoundError):
                away.rename(self.root / f"{DAMAGED}-{uuid.uuid4().hex[:8]}")
            away.mkdir(exist_ok=True)
        to = away / f"{place.name}-{uuid.uuid4().hex[:8]}"
        try:
            place.rename(to)
        except (FileNotFoundError, NotADirectoryError):
            return
        name = what or f"{place.relative_to(self.root)}"
        self.say(f"{name} was damaged in the store: set aside as {to.relative_to(self.root)} and made again.")

    def open_lock(self, place: Path) -> int:
        """The handle of a file that is locked, made where it isn't there; anything else in its place is set aside."""
        while True:
            with suppress(OSError):
                handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
                if stat.S_ISREG(os.fstat(handle).st_mode):
                    return handle
                os.close(handle)
            with self.told_closed(), lock_folder(self.root):
                if is_file(place) or not os.path.lexists(place):  # what failed isn't the place's fault
                    return os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
                self.set_aside(place)


def is_file(place: Path) -> bool:
    """Whether a file lies there: no link, no folder, nothing special."""
    try:
        return stat.S_ISREG(place.lstat().st_mode)
    except OSError:
        return False


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder itself, which no file in it can be in the way of."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        take_lock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_locked(place: Path) -> bool:
    """Whether somebody has a file or folder locked for himself alone; no where there are no locks."""
    with suppress(FileNotFoundError):
        handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(handle)
    return False


def take_lock(handle: int, kind: int, seconds: float | None = None) -> bool:
    """Lock an open file until it is closed, within ``seconds``; whether that was to be had.

    A file system without locks has none to give, and then at worst two do the same work.
    """
    until = time.monotonic() + (LOCK_SECONDS if seconds is None else seconds)
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.002)
        except OSError:
            return False
