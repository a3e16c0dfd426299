"""Records and responses on disk: one JSON file a run, one compressed file per measured checkpoint; published, many in a bundle.

A file that can't be read is named and left out; it never stops a reader and is never overwritten.
"""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.core.errors import UserError
from bench.core.files import write_bytes
from bench.core.record import MIGRATE, Record
from bench.core.scrub import hide_secrets
from bench.core.texts import one_line
from bench.core.types import Responses
from bench.records.bundles import BUNDLE, N, parse_record, read_bundle, read_published
from bench.records.columns import pack_responses, unpack_responses
from bench.records.heads import Head, read_head, read_heads
from bench.records.plain import MOST_BYTES, MOST_UNPACKED, Closed, list_json, parse_plain, read_bounded, unpack

NOT_RECORDS = (
    *("responses", "texts", "plots", "tables", "tune", "wandb", "tensorboard", "trackers", "cluster", "logs"),
    *("ablations", "reproduce"),
)
"""Folders directly below a results folder in which no record is looked for."""

COLUMNS = ".safetensors.xz"
"""Ending of published responses."""


@dataclass(frozen=True)
class BrokenFile:
    """A file among the records that is not one, or a folder that can't be looked into."""

    path: str
    """Relative to the results folder."""
    reason: str
    remedy: str = "delete it and run again"

    @property
    def left_out(self) -> str:
        """The line that every command says of it."""
        return f"left out: {self.path}: {self.reason}: {self.remedy}."


@dataclass(frozen=True)
class LoadedRecords:
    """The records of a results folder, and the files in it that can't be read."""

    records: list[Record]
    """Sorted by name."""
    broken: list[BrokenFile]
    """Sorted by path."""


@dataclass(frozen=True)
class LoadedHeads:
    """The heads of the records of a results folder, and the files in it that can't be read."""

    heads: dict[str, Head]
    """By name, sorted."""
    broken: list[BrokenFile]
    """Sorted by path."""

    @property
    def records(self) -> list[Record]:
        """The records without their numbers."""
        return [head.about for head in self.heads.values()]


def write_record(record: Record, root: Path) -> Path:
    """Write ``record`` below ``root`` at its own name, in place of an earlier record of the same run.

    Raises `UserError` when a file stands there that is not a record: it may be somebody's data; and where no reader
    would take the record.
    """
    text = record_text(without_secrets(record))
    path = root / record.name
    if path.exists():
        try:
            _parse(path)
        except ValueError as reason:
            raise UserError(
                f"{record.name} is in the way and not a readable record ({reason}): "
                f"{remedy_for(reason, 'move or delete it')}, then run again."
            ) from None
    write_bytes(path, text.encode())
    return path


def without_secrets(record: Record) -> Record:
    """A record as it may be kept; `UserError` where no reader would take it."""
    # Reasons quote libraries and plug-ins, which may have been given a token.
    hidden = {name: hide_secrets(reason) for name, reason in record.absent.items()}
    record = replace(record, reason=hide_secrets(record.reason), absent=hidden)
    try:
        record = Record.from_json(record.to_json())
        record_text(record)
    except ValueError as reason:
        raise UserError(f"The record of {record.spec.method} on {record.spec.task} can't be kept ({reason}).") from None
    return record


def record_text(record: Record) -> str:
    """The text of a record's file: JSON with sorted keys; `ValueError` where a number is not finite."""
    return json.dumps(record.to_json(), indent=1, sort_keys=True, allow_nan=False) + "\n"


def read_record(path: Path) -> Record:
    """The record in ``path``; `UserError` when there is none or it is broken."""
    try:
        return _parse(path)
    except ValueError as reason:
        raise UserError(
            f"{path.name} is not a readable record ({reason}): {remedy_for(reason)} and run again."
        ) from None


def remedy_for(reason: ValueError, otherwise: str = "delete it") -> str:
    """What to do about a file that can't be read for a reason: nothing is deleted that may be sound."""
    return reason.remedy if isinstance(reason, Closed) else otherwise


def load_records(root: Path, part: str = "") -> LoadedRecords:
    """Every record below ``root``, and the files that should be records and aren't; nothing when there is no folder.

    Of the records' files and of what bundles hold, only what has ``part`` in its name, folders included.
    """
    return LoadedRecords(*_load(root, part, _parse, read_bundle))


def load_heads(root: Path) -> LoadedHeads:
    """As `load_records`, without the records' numbers: what a command needs to find one."""
    heads, broken = _load(root, "", read_head, read_heads)
    return LoadedHeads({head.name: head for head in heads}, broken)


def _load(
    root: Path, part: str, read_file: Callable[[Path], N], read_many: Callable[[Path], list[N]]
) -> tuple[list[N], list[BrokenFile]]:
    records: list[N] = []
    paths, closed = list_json(root, NOT_RECORDS, (".json", BUNDLE))
    broken = [
        BrokenFile(path_below(path, root), str(reason), f"{remedy_for(reason, 'mend or delete it')} and run again")
        for path, reason in closed
    ]
    for path in paths:
        name = path_below(path, root)
        if path.name.startswith("."):
            continue
        if path.name.endswith(BUNDLE):
            try:
                records += [one for one in read_published(path, root, read_many) if part in one.name]
            except ValueError as error:
                broken.append(
                    BrokenFile(name, str(error), remedy_for(error, "delete it and publish its records again"))
                )
            continue
        if part not in name:
            continue
        try:
            record = read_file(path)
            # A renamed copy would enter the means twice.
            if record.name != path.relative_to(root).as_posix():
                if not is_same_file(path, root / record.name):
                    reason = f"it is the record that belongs at {one_line(record.name)}"
                    broken.append(BrokenFile(name, reason, "move it there, or delete it"))
                continue
            records.append(record)
        except ValueError as error:
            remedy = "renew it so, or delete it" if MIGRATE in str(error) else remedy_for(error)
            broken.append(BrokenFile(name, str(error), f"{remedy} and run again"))
    counts = Counter(record.name for record in records)
    if twice := {name for name, count in counts.items() if count > 1}:
        broken += [BrokenFile(one_line(n), "it stands in its folder's bundle too", "delete one of them") for n in twice]
        records = list({record.name: record for record in records}.values())
    broken.sort(key=lambda file: file.path)
    return sorted(records, key=lambda record: record.name), broken


def path_below(path: Path, root: Path) -> str:
    """A path as a line says it: from ``root``."""
    return one_line(path.relative_to(root).as_posix())


def is_same_file(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file, by links."""
    try:
        return path.samefile(other)
    except OSError:
        return False


def responses_path(root: Path, key: str) -> Path:
    """The file of the published responses named ``key`` below the results folder ``root``."""
    return root / "responses" / f"{key}{COLUMNS}"


def texts_path(root: Path, key: str) -> Path:
    """The file of what the lab's model behind the responses named ``key`` said, below the results folder ``root``."""
    return root / "texts" / f"{key}.json.gz"


def is_published(root: Path) -> bool:
    """Whether a folder of records is a published one: it has responses or bundles in it, and no benchmark's text."""
    return (root / "responses").is_dir() or any(root.glob(f"*/*/*{BUNDLE}"))


def write_responses(responses: Responses, path: Path) -> Path:
    """Write ``responses``: equal responses, equal bytes; every float is read back exactly.

    As columns of numbers (`bench.records.columns`) where the name ends in `COLUMNS`, as what is published does; else as gzip
    JSON, which holds texts too. Rows keep their order, as a mean over them may depend on it in the last bit.
    """
    if path.name.endswith(COLUMNS):
        write_bytes(path, pack_responses(responses))
        return path
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        file.write(json.dumps(responses.to_json(), separators=(",", ":")).encode())
    write_bytes(path, buffer.getvalue())
    return path


def read_responses(path: Path) -> Responses:
    """The responses in ``path``; `UserError` when there are none or they are broken."""
    if not path.exists():
        raise UserError(f"There are no responses in {path.name}: run or publish the record again.")
    try:
        content = read_bounded(path, MOST_UNPACKED)
        if path.name.endswith(COLUMNS):
            return unpack_responses(content)
        return Responses.from_json(parse_plain(unpack(content), measured=True))
    except ValueError as error:
        raise UserError(
            f"{path.name} holds no readable responses ({error}): {remedy_for(error)} and run again."
        ) from None


def _parse(path: Path) -> Record:
    """The record in ``path``; `ValueError` says what is wrong with it, without naming the folder."""
    return parse_record(read_bounded(path, MOST_BYTES))
