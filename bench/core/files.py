"""Writing files and folders whole (to a temporary name beside the place, then renamed into it), and reading tables of facts."""

from __future__ import annotations

import os
import shutil
import stat
import tomllib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``; a reader sees the old file or the new one, never half of either."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8; a reader sees the old file or the new one, never half of either."""
    write_bytes(path, text.encode())


def read_small(path: Path, most: int) -> bytes:
    """Read a file of at most ``most`` bytes; `ValueError` for a larger one and for what is no file, without waiting."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("it is no file")
        if about.st_size > most:
            raise ValueError(f"it has {about.st_size} bytes, and at most {most} are read")
        with open(handle, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(handle)


def remove_path(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; no link is followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder`` that takes its name at the end, unless another process has made that meanwhile.

    A block that fails leaves nothing behind; what is left of a killed process is ``.NAME.partial-`` and a few letters.
    """
    partial = folder.with_name(f".{folder.name}.partial-{uuid.uuid4().hex[:8]}")
    partial.mkdir(parents=True)
    try:
        yield partial
        if not folder.is_dir():
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, unchecked."""
    return tomllib.loads(path.read_text(encoding="utf-8"))
