"""The index of a store: a line for each published node, so that nobody opens 5,000 files to know what is there.

The index is a help and never the truth: what it lacks is read from the nodes themselves and added, and lines of nodes
that have gone, damaged lines and lines of an older form are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from bench.core.contracts import Node
from bench.core.hashing import hash_json
from bench.core.types import Json
from bench.runs.nodes import is_amount, is_hash, is_key

INDEX = "index.jsonl"
MOST_BYTES = 1 << 30
CHECK = "check"
"""The field of a line that is a hash of all others, cut."""
MEASURED = ("tokens", "parameters", "train_seconds", "resumed")
"""Fields of a node's ``meta`` that its line repeats, as estimates read them."""
VERSIONED = ("engine", "version")
"""Fields that name the version of the engine that made a node."""


def index_entry(node: Node) -> Json:
    """What the index says of a node.

    ``key``, ``bytes``, ``device``; ``kind`` and ``version`` of what made it; ``uses``, the hashes and keys that it was
    made of; ``gives``, those of its checkpoints; of a training run its `MEASURED`.
    """
    fields, meta = node.info["fields"], node.info["meta"]
    snapshots = meta.get("snapshots")
    parts = snapshots.values() if isinstance(snapshots, dict) else ()
    given = [meta.get("checkpoint"), *(part.get("checkpoint") for part in parts if isinstance(part, dict))]
    return {
        "key": node.key,
        "bytes": node.info["bytes"],
        "device": str(node.info["provenance"].get("device", "cpu")),
        "kind": str(fields.get("kind", "")),
        "version": next((fields[name] for name in VERSIONED if isinstance(fields.get(name), int)), None),
        "uses": sorted({text for text in list_texts(fields) if is_key(text) or is_hash(text)}),
        "gives": [checkpoint for checkpoint in given if is_hash(checkpoint)],
        **{name: meta[name] for name in MEASURED if is_amount(meta.get(name)) or isinstance(meta.get(name), bool)},
    }


def list_texts(data: Any) -> Iterator[str]:
    """Every text inside of dictionaries and lists."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for part in data.values():
            yield from list_texts(part)
    elif isinstance(data, list | tuple):
        for part in data:
            yield from list_texts(part)


def index_text(entries: Sequence[Json]) -> str:
    """The lines of some entries."""
    return "".join(f"{json.dumps(entry | {CHECK: hash_json(entry)[:16]})}\n" for entry in entries)


def read_entries(text: str) -> dict[str, Json]:
    """Key -> what the index says of a node, in the order of their lines; damaged lines are passed over."""
    found: dict[str, Json] = {}
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            if entry.pop(CHECK) == hash_json(entry)[:16] and is_key(entry["key"]):
                found[entry["key"]] = entry
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return found
