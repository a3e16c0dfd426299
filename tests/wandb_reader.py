"""Reads W&B's offline log: a 7-byte header, then LevelDB's log format of `wandb_internal_pb2.Record`.

The format (github.com/google/leveldb, doc/log_format.md): blocks of 32 KiB; in them chunks of crc (4 bytes), length (2,
little endian), type (1: full 1, first 2, middle 3, last 4) and data; fewer than 7 bytes at a block's end are padding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

BLOCK = 32768
HEADER = 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """What an offline run holds, put together from its log."""

    number: str = ""
    """W&B's id."""
    project: str = ""
    entity: str = ""
    group: str = ""
    job_type: str = ""
    name: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    directions: dict[str, str] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)
    """Metric (or pattern) and the metric that is its x axis."""
    artifacts: dict[str, dict[str, Path]] = field(default_factory=dict)
    """Per artifact: the files in it, where they wait to be sent."""
    statistics: int = 0
    """How often the machine was looked at."""
    exit_code: int | None = None
    folder: Path = Path()


def read_runs(directory: Path) -> list[OfflineRun]:
    """Every offline run below ``directory``, in the order in which they were made."""
    paths = sorted(directory.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    return [read_run(path) for path in paths]


def read_run(path: Path) -> OfflineRun:
    """One offline run."""
    # Its classes are made when it is imported, so that a type checker can't see them.
    messages: Any = import_module("wandb.proto.wandb_internal_pb2")
    run = OfflineRun(folder=path.parent)
    for data in payloads(path.read_bytes()):
        record = messages.Record()
        record.ParseFromString(data)
        _add(run, record)
    return run


def payloads(data: bytes) -> Iterator[bytes]:
    """The records' bytes, chunks joined."""
    assert data[:4] == b":W&B", data[:HEADER]
    at, whole = HEADER, b""
    while at < len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        chunk = data[at + HEADER : at + HEADER + length]
        assert len(chunk) == length, "the log is cut off"
        at += HEADER + length
        whole = chunk if kind in (FULL, FIRST) else whole + chunk
        if kind in (FULL, LAST):
            yield whole


def _add(run: OfflineRun, record: Any) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        run.number, run.entity = record.run.run_id, record.run.entity
        run.project, run.group, run.name = record.run.project, record.run.run_group, record.run.display_name
        run.job_type, run.tags = record.run.job_type, list(record.run.tags)
        _update(run.config, record.run.config.update)
    elif kind == "config":
        _update(run.config, record.config.update)
    elif kind == "history":
        run.history.append(_update({}, record.history.item))
    elif kind == "summary":
        _update(run.summary, record.summary.update)
    elif kind == "metric":
        name = record.metric.name or record.metric.glob_name
        run.steps[name] = record.metric.step_metric
        run.directions[name] = "max" if record.metric.summary.max else "min" if record.metric.summary.min else ""
    elif kind == "artifact":
        entries = record.artifact.manifest.contents
        run.artifacts[record.artifact.name] = {entry.path: Path(entry.local_path) for entry in entries}
    elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
        _add(run, type(record)(artifact=record.request.log_artifact.artifact))
    elif kind == "stats":
        run.statistics += 1
    elif kind == "exit":
        run.exit_code = record.exit.exit_code


def _update(into: dict[str, Any], items: Any) -> dict[str, Any]:
    for item in items:
        into["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    return into
