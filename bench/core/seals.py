"""Seals: a folder that is written over a long time says at the end what its files hash to.

What goes on from a folder takes it only if it is sealed and its files are still those; one without a seal was being
written when a process died.
"""

from __future__ import annotations

import json
from pathlib import Path

from bench.core.files import read_small, write_text
from bench.core.hashing import hash_file

SEAL = "sealed.json"
"""The file of a sealed folder: relative name -> sha256 of every other file."""
MOST_BYTES = 16 << 20


def seal(folder: Path) -> None:
    """Seal a folder; nothing may be written into it afterwards."""
    write_text(folder / SEAL, json.dumps(hash_files(folder), indent=1))


def is_whole(folder: Path) -> bool:
    """Whether a folder is sealed and its files are those that it was sealed with."""
    try:
        return bool(json.loads(read_small(folder / SEAL, MOST_BYTES)) == hash_files(folder))
    except (OSError, ValueError, RecursionError):
        return False


def break_seal(folder: Path) -> None:
    """Take the seal off, so that the folder holds what was written and nothing else."""
    (folder / SEAL).unlink()


def hash_files(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder by its relative name; the seal's own apart."""
    paths = sorted(path for path in folder.rglob("*") if path.name != SEAL and not path.is_dir())
    return {path.relative_to(folder).as_posix(): hash_file(path) if path.is_file() else "no file" for path in paths}
