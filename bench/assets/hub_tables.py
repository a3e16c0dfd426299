"""Reading a configuration of a benchmark's data in the hub's layout, or saying why it can't be had."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.core.errors import Absent, UserError

HubRow = dict[str, Any]


def read_rows(data: str, config: str, split: str, fields: Sequence[str]) -> list[HubRow]:
    """The rows of ``load_dataset(data, config, split=split)``; any number of them, at least one.

    Raises `Absent` when the configuration, the split or a field is missing, and `UserError` when ``data`` is a folder
    that isn't there or a hub's name that can't be reached.
    """
    try:
        rows = read_table(data, config, split)
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Absent(
            f"the data have no '{split}' of the configuration '{config}' ({shorten_reason(reason)})"
        ) from error
    if not rows:
        raise Absent(f"the configuration '{config}' has no rows in '{split}'")
    if missing := missing_fields(rows, fields):
        raise Absent(f"the configuration '{config}' lacks the field {' and '.join(missing)}")
    if gaps := [(number, field) for number, row in enumerate(rows) for field in fields if has_gap(row[field])]:
        number, field = gaps[0]
        raise UserError(
            f"Row {number} of the configuration '{config}' has no {field} ({len(gaps)} such gaps in all): "
            "fill it in or take the row out; nothing stands in for it."
        )
    return rows


def missing_fields(rows: Sequence[HubRow], fields: Sequence[str]) -> list[str]:
    """Those of the ``fields`` that the first row doesn't have; all of them where there is no row."""
    return [field for field in fields if not rows or field not in rows[0]]


def has_gap(value: Any) -> bool:
    """Whether a field, or one of its texts, says nothing at all (null; an empty text is a text)."""
    return value is None or (isinstance(value, list) and any(map(has_gap, value)))


def check_hub(data: str) -> None:
    """`UserError` unless ``data`` can be a data set's name on a hub that may be asked."""
    if data.count("/") != 1 or data.startswith((".", "/", "~")):
        raise UserError(f"There is no data folder '{data}': name a folder in the benchmark's layout, or a hub's id.")
    if not os.environ.get("HF_HUB_OFFLINE"):
        from bench.assets.hub import require_hub

        require_hub(f"read {data}")


def shorten_reason(reason: str) -> str:
    """A library's reason without the folders of this machine."""
    words = [Path(word.strip("'\"")).name if word.strip("'\"").startswith("/") else word for word in reason.split()]
    return " ".join(words)[:200]


@contextlib.contextmanager
def explain_broken_file(place: str, config: str, broken: type[Exception]) -> Iterator[None]:
    """A broken file as a `UserError`."""
    try:
        yield
    except broken as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"A file of the configuration '{config}' of '{Path(place).name}' can't be read ({cause}): get it again."
        ) from error


def read_table(place: str, config: str, split: str = "train") -> list[HubRow]:
    """The rows of ``load_dataset(place, config, split=split)``.

    A folder is read anew each time: the library's cache goes by the folder's name and gives the rows of an earlier
    state of it, or of another folder of that name. Raises the library's ValueError or OSError where there is no such
    table, and `UserError` where its file is broken, or where ``place`` is neither a folder nor a data set of a hub
    that can be reached.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        check_hub(place)
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    with contextlib.ExitStack() as stack:
        stack.enter_context(explain_broken_file(place, config, DatasetGenerationError))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))  # progress bars
        if not folder.is_dir():
            return [dict(row) for row in load_dataset(place, config, split=split)]
        cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="msa-bench-data-"))
        table = load_dataset(str(folder), config, split=split, cache_dir=cache, keep_in_memory=True)
        return [dict(row) for row in table]
