"""Content hashes: of JSON, of files, of checkpoint folders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

CHUNK = 1 << 22
"""Bytes read at a time."""

WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt")
MODEL_FILES = (*WEIGHT_FILES, "config.json", *TOKENIZER_FILES, "chat_template.jinja")
"""What decides how a model behaves; other files of a folder (optimiser state, logs) don't count."""


def canonical(data: Any) -> str:
    """JSON with sorted keys and no spaces: equal data, equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(data: Any) -> str:
    """sha256 of the canonical JSON of ``data``, in hex."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def tree_hash(folder: Path) -> str:
    """sha256 over the relative names and file hashes of everything below ``folder``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest([[path.relative_to(folder).as_posix(), file_hash(path)] for path in files])


def folder_hash(folder: Path, patterns: tuple[str, ...] = MODEL_FILES) -> str:
    """sha256 over the sorted names and file hashes of what matches ``patterns`` in ``folder``."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return digest([[path.name, file_hash(path)] for path in files])
