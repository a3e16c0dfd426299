"""Content hashes: of JSON, of files, of checkpoint folders."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

CHUNK = 1 << 22
"""Bytes read at a time."""

WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt")
MODEL_FILES = (*WEIGHT_FILES, "config.json", *TOKENIZER_FILES, "chat_template.jinja")
"""What decides how a model behaves; other files of a folder (optimiser state, logs) don't count."""

READS = (*TOKENIZER_FILES, "chat_template.jinja")
"""What decides how a text becomes tokens."""

_known: dict[tuple[int, int, int, int], str] = {}
"""Device, inode, size and time of change -> sha256 of files that this process hashed while writing them."""


def canonical_json(data: Any) -> str:
    """JSON with sorted keys and no spaces: equal data, equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def hash_json(data: Any) -> str:
    """sha256 of the canonical JSON of ``data``, in hex."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex; not read again where `remember_hash` was told."""
    if _known and (known := _known.get(file_stamp(path))):
        return known
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def remember_hash(path: Path, sha: str) -> None:
    """Let `hash_file` know the sha256 of a file that was just written, until the file changes; a rename doesn't matter.

    The file gets a time of change to the nanosecond. The kernel's own times are those of its clock's ticks, milliseconds
    apart, so that a later write shows even within the tick; on a file system with coarser times nothing is remembered.
    """
    now = time.time_ns()
    os.utime(path, ns=(now, now))
    key = file_stamp(path)
    if key[-1] == now:
        _known[key] = sha


def file_stamp(path: Path) -> tuple[int, int, int, int]:
    """Device, inode, size in bytes and time of the last change in nanoseconds: another one, another content."""
    about = path.stat()
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def hash_tree(folder: Path) -> str:
    """sha256 over the relative names and file hashes of everything below ``folder``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hash_json([[path.relative_to(folder).as_posix(), hash_file(path)] for path in files])


def hash_checkpoint(folder: Path, patterns: tuple[str, ...] = MODEL_FILES) -> str:
    """sha256 over the sorted names and file hashes of what matches ``patterns`` in ``folder``."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return hash_json([[path.name, hash_file(path)] for path in files])


def hash_tokenizer(folder: Path) -> str:
    """One hash of the files that decide how a text becomes tokens."""
    return hash_json({name: hash_file(folder / name) for name in READS if (folder / name).is_file()})
