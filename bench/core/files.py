"""Writing files and folders whole (to a temporary name beside the place, then renamed into it), and reading tables of facts.

A temporary name says who made it, so that what a killed process left behind is removed by the next one that writes there.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

LEFT = re.compile(
    r"\..+\.(?:partial-)?(?:(?P<space>[0-9a-f]{8})-)?(?P<pid>\d+)-[0-9a-f]{8}(?:-\w+)?|\..+\.partial-[0-9a-f]{8}"
)
"""A temporary name: ``.NAME.SPACE-PID-NONCE`` of a file, ``.NAME.partial-SPACE-PID-NONCE`` of a folder; older ones say less."""
DEAD_SECONDS = 60.0
"""What a dead process of this machine left is removed at this age ..."""
OLD_SECONDS = 7 * 86_400.0
"""... and at this age what is left of a process that can't be asked after: of another machine, or of before a restart."""

MOST_TOML = 1 << 24
"""Bytes of a table of facts or settings."""
DAMAGED = "damaged"
"""In the name of what is set aside; in a store, the folder in which it lies until `bench prune` removes it."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``; a reader sees the old file or the new one, never half of either.

    An `OSError` names ``path``, whatever it was about.
    """
    temporary = path.with_name(f".{path.name}.{name_owner()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_folder(path.parent.absolute())
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8; a reader sees the old file or the new one, never half of either."""
    write_bytes(path, text.encode())


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading; `ValueError` for what is no file, without waiting."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is no file")
        with open(handle, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(handle)


def read_small(path: Path, most: int, start: int = 0) -> bytes:
    """Read a file of at most ``most`` bytes, from its byte ``start`` on; `ValueError` for a larger one and for what is no
    file, without waiting.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"it has {size} bytes, and at most {most} are read")
        file.seek(start)
        return file.read(most)


def read_end(path: Path, most: int) -> bytes:
    """Read the last ``most`` bytes of a file, which may be any size; `ValueError` for what is no file, without waiting."""
    with open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - most))
        return file.read(most)


def set_aside(file: Path, what: str, say: Callable[[str], None]) -> None:
    """Give another name to what stands in a file's place and is no such file, and say so; nothing where nothing stands."""
    if os.path.lexists(file):
        away = file.with_name(f"{file.name}.{DAMAGED}-{uuid.uuid4().hex[:8]}")
        file.rename(away)
        say(f"{file.name} is no {what}: set aside as {away.name} and made again.")


def remove_path(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; no link is followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder`` that takes its name at the end, unless another process has made that meanwhile.

    A block that fails leaves nothing behind.
    """
    partial = folder.with_name(f".{folder.name}.partial-{name_owner()}")
    partial.mkdir(parents=True)
    sweep_folder(folder.parent.absolute())
    try:
        yield partial
        if not folder.is_dir():
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def name_owner() -> str:
    """The end of a temporary name: where and by which process it is made, and what tells it from others of that process."""
    return f"{hash_space()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


@cache
def hash_space() -> str:
    """Eight letters for where process numbers mean the same: this machine since it started, and in it this container."""
    return hashlib.sha256(f"{boot_id()} {this_process_space()}".encode()).hexdigest()[:8]


def boot_id() -> str:
    """What the system calls this start of the machine; empty where it doesn't say."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def this_process_space() -> str:
    """Where process numbers mean the same: this machine and, in a container, its own table of processes."""
    return f"{os.uname().nodename} {os.readlink('/proc/self/ns/pid')}"


@cache
def sweep_folder(folder: Path) -> None:
    """Remove what dead processes left behind in a folder, the first time that this process writes there."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and (named := LEFT.fullmatch(entry.name)) and is_left(named, entry):
                remove_entry(entry)


def is_left(named: re.Match[str], entry: os.DirEntry[str]) -> bool:
    """Whether nobody can still be writing a temporary file or folder."""
    try:
        age = time.time() - entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return False
    if named["space"] == hash_space() and not is_running(int(named["pid"])):
        return age > DEAD_SECONDS
    return age > OLD_SECONDS


def is_running(pid: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


def remove_entry(entry: os.DirEntry[str]) -> None:
    """Remove a file or a folder; where that isn't allowed it stays."""
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        with suppress(OSError):
            os.unlink(entry.path)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, unchecked; `ValueError` where it holds none, `OSError` where it can't be read."""
    return tomllib.loads(read_small(path, MOST_TOML).decode())
