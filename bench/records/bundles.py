"""Bundles: many records in one file, as they are published. Records of a task are alike, and together pack to a twentieth.

``FOLDER.jsonl.xz`` holds what would lie in FOLDER as JSON files, one record a line: ``xz -dc
results/lab/tofu/lab.jsonl.xz | jq``.
"""

from __future__ import annotations

import fcntl
import json
import lzma
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from bench.core.files import write_bytes
from bench.core.record import Record
from bench.core.texts import one_line
from bench.records.plain import parse_plain, read_bounded, unpack_xz

BUNDLE = ".jsonl.xz"
"""Ending of a bundle."""
MOST_BUNDLE = 256 << 20
"""Bytes of a bundle, unpacked: some ten thousand records."""


class Named(Protocol):
    """What has a record's name."""

    @property
    def name(self) -> str:
        """``tier/task/model/file``."""
        ...


N = TypeVar("N", bound=Named)


def bundle_path(record: Named, root: Path) -> Path:
    """The bundle of a published record: of its tier, task and model."""
    folder = root / Path(record.name).parent
    return folder.with_name(folder.name + BUNDLE)


def write_bundle(records: Iterable[Record], path: Path) -> Path:
    """Write records, sorted by name, in place of what was there; equal records, equal bytes."""
    ordered = sorted(records, key=lambda record: record.name)
    lines = [
        json.dumps(record.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"
        for record in ordered
    ]
    write_bytes(path, lzma.compress("".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))
    return path


def read_bundle(path: Path) -> list[Record]:
    """The records of a bundle; ValueError says what is wrong with it."""
    return read_lines(bundle_lines(path), parse_record)


def read_lines(lines: Iterable[bytes], parse: Callable[[bytes], N]) -> list[N]:
    """What ``parse`` makes of each line; ValueError names the one that isn't sound, or that has an earlier one's name."""
    found: dict[str, N] = {}
    for number, line in enumerate(lines, 1):
        try:
            made = parse(line)
        except ValueError as error:
            raise ValueError(one_line(f"record {number}: {error}")) from None
        if made.name in found:
            raise ValueError(f"record {number}: {one_line(made.name)} stands in it twice")
        found[made.name] = made
    return list(found.values())


def parse_record(content: bytes) -> Record:
    """The record that is JSON; ValueError says what is wrong with it."""
    try:
        data = parse_plain(content)
        if not isinstance(data, dict):
            raise ValueError("it is no JSON object")
        return Record.from_json(data)
    except ValueError as error:
        raise ValueError(one_line(str(error))) from None


def bundle_lines(path: Path) -> list[bytes]:
    """The lines of a bundle, one a record; ValueError where it can't be read."""
    return unpack_bundle(path).splitlines()


def unpack_bundle(path: Path) -> bytes:
    """The text of a bundle; ValueError where it can't be read."""
    return unpack_xz(read_bounded(path, MOST_BUNDLE), MOST_BUNDLE)


def read_published(path: Path, root: Path, read: Callable[[Path], list[N]]) -> list[N]:
    """What ``read`` finds in a bundle below ``root``, where each belongs into that folder; else ValueError."""
    found = read(path)
    for each in found:
        if bundle_path(each, root) != path:
            raise ValueError(f"it holds the record that belongs at {one_line(each.name)}")
    return found


def put_records(records: Sequence[Record], root: Path) -> list[Path]:
    """Put records into their bundles below ``root``, in place of earlier ones of the same runs; returns the bundles.

    Whoever else puts records below ``root`` meanwhile waits, so that nobody's are lost.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        paths: dict[Path, dict[str, Record]] = {}
        for record in records:
            path = bundle_path(record, root)
            if path not in paths:
                there = read_published(path, root, read_bundle) if path.exists() else []
                paths[path] = {old.name: old for old in there}
            paths[path][record.name] = record
        return [write_bundle(each.values(), path) for path, each in sorted(paths.items())]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder itself, which the system frees when the process dies."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
