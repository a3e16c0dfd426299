"""Histories made by hand, and files that describe them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.assets.history_file import read_history_file
from bench.assets.models import FETCHED
from bench.core.errors import UserError
from bench.core.hashing import hash_checkpoint
from bench.core.types import Checkpoint, History, Moment

BILLION = 10**9


def moment(step: int, tokens: int | None = None, exposed: bool = False, revision: str = "") -> Moment:
    checkpoint = Checkpoint(f"/nowhere/{step}", f"hash-{step}", label=f"history-{step}")
    return Moment(checkpoint, step, tokens, "pretraining", exposed, revision)


def history(*steps: int, last: int = 640) -> History:
    return History(tuple(moment(step, step * 100, step > last) for step in steps))


def written(folder: Path, **data: Any) -> Path:
    path = folder / "history.json"
    path.write_text(json.dumps(data))
    return path


def mistakes(folder: Path, **data: Any) -> tuple[str, ...]:
    with pytest.raises(UserError) as error:
        read_history_file(written(folder, **data), folder / "models")
    return error.value.problems


def fetched(models: Path, name: str, source: Path) -> Path:
    folder = models / name.replace("/", "--")
    shutil.copytree(source, folder)
    (folder / FETCHED).write_text(json.dumps({"hash": hash_checkpoint(folder)}))
    return folder
