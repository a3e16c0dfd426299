"""A node on disk: its files, and ``node.json``, which says how they were made and what they hash to.

``node.json`` carries a checksum of its own content, its fields are of declared types, and the node's key is the hash of
what it says of its making (``fields``). One from before there was a checksum is used as well: of that the key guards
``fields``, and the content hash every other file, while label, seconds, provenance and ``meta`` are checked for their types.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.core.contracts import Node
from bench.core.files import read_small
from bench.core.hashing import hash_file, hash_json
from bench.core.types import Json

NODE_FILE = "node.json"
MOST_BYTES = 64 << 20
"""Of ``node.json``."""
KEY, HASH = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}")
CHECKSUM = "checksum"
"""The field of ``node.json`` that is the hash of all others."""
HOLD_CHECKPOINT = ("train", "combine", "scrambled", "influence")
"""Kinds of nodes whose ``meta`` names the checkpoint in them."""


def is_hash(value: object) -> bool:
    """A sha256 in hex."""
    return isinstance(value, str) and HASH.fullmatch(value) is not None


def is_amount(value: object) -> bool:
    """A finite number of at least 0."""
    return type(value) in (int, float) and math.isfinite(value) and value >= 0  # type: ignore[arg-type,operator]


FIELDS: dict[str, Callable[[object], bool]] = {
    "fields": lambda value: isinstance(value, dict),
    "label": lambda value: isinstance(value, str),
    "seconds": is_amount,
    "expected_seconds": is_amount,
    "bytes": is_amount,
    "hash": is_hash,
    "provenance": lambda value: isinstance(value, dict),
    "meta": lambda value: isinstance(value, dict),
}
"""What ``node.json`` says, each with a check of its type; nothing else stands there but the checksum."""


def is_key(key: object) -> bool:
    """Whether a value is a node's key, which is a folder's name: keys come from records, that is from anybody."""
    return isinstance(key, str) and KEY.fullmatch(key) is not None


def node_text(info: Json) -> str:
    """The text of ``node.json``."""
    info = json.loads(json.dumps(info))
    return json.dumps(info | {CHECKSUM: hash_json(info)}, indent=1)


def read_info(folder: Path) -> Json:
    """What ``node.json`` of a published folder says; `ValueError` where it is damaged, `OSError` where it isn't to be had."""
    try:
        info = json.loads(read_small(folder / NODE_FILE, MOST_BYTES))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(info, dict) or not FIELDS.keys() <= info.keys() <= {*FIELDS, CHECKSUM}:
        raise ValueError("it hasn't the fields of a node")
    for name, is_good in FIELDS.items():
        if not is_good(info[name]):
            raise ValueError(f"its {name} is {info[name]!r:.50}")
    if CHECKSUM in info and (told := info.pop(CHECKSUM)) != hash_json(info):
        raise ValueError(f"its checksum is {told!r:.80} and should be another one")
    if hash_json(info["fields"])[:32] != folder.name:
        raise ValueError("it is another node's")
    if info["fields"].get("kind") in HOLD_CHECKPOINT and not is_hash(info["meta"].get("checkpoint")):
        raise ValueError("it names no checkpoint")
    return dict(info)


def read_node(folder: Path) -> Node | None:
    """A published folder by its own file, its other files unchecked; None where that is damaged or has just gone."""
    try:
        return Node(folder.name, folder, read_info(folder))
    except (OSError, ValueError):
        return None


def hash_node(folder: Path) -> str:
    """Hash of a node's files, without the file that states it."""
    return node_content_hash(folder, NODE_FILE)


def node_content_hash(folder: Path, leave_out: str = "") -> str:
    """sha256 over the sorted names and the hashes of everything in a node's ``folder``, level by level.

    `bench.core.hashing.hash_tree` is another one: over the relative names of all files. `ValueError` for what is no file
    and no folder: a link to a folder may lead round in circles, and a pipe has no end.
    """
    found = []
    for path in sorted(path for path in folder.iterdir() if path.name != leave_out):
        if stat.S_ISDIR(path.lstat().st_mode):
            found.append([path.name, node_content_hash(path)])
        elif path.is_file():
            found.append([path.name, hash_file(path)])
        else:
            raise ValueError(f"{path.name} is no file")
    return hash_json(found)


def stamp_node(folder: Path) -> list[tuple[Any, ...]]:
    """Name, inode, size and times of change of everything in a node's folder: the same stamps, the same content."""
    stamps = []
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        stamps.append((str(path), about.st_ino, about.st_mode, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
    return stamps
