"""Reading a configuration of a benchmark's data in the hub's layout, or saying why it can't be had.

`Absent` is what isn't there: a configuration, a split, a field. What is there and is broken is a `UserError`, as a score
that is absent by a broken byte would pass for one that the data never gave.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.assets.typed_rows import fault_of_text, fault_of_texts, read_csv_rows, read_json_rows
from bench.core.errors import Absent, UserError, shorten_reason

HubRow = dict[str, Any]
JSON, CSV = (".json", ".jsonl", ".ndjson"), {".csv": ",", ".tsv": "\t"}
"""Endings of the files that are read here and not by the library; of CSV with what parts the columns."""
OURS = ("name", "data_files", "data_dir", "version", "description", "features", "sep")
"""Options of a configuration that a file of JSON or CSV is read with, or needs not be."""


def read_rows(data: str, config: str, split: str, fields: Sequence[str], lists: Sequence[str] = ()) -> list[HubRow]:
    """The ``fields`` of every row of a table as texts, and those of ``lists`` as lists of texts; at least one row.

    A list's single text may stand alone. Raises `Absent` when the configuration, the split or a field is missing, and
    `UserError` for a field that isn't of its type, or when ``data`` is a folder that isn't there or a hub's name that
    can't be reached.
    """
    name = config if split == "train" else f"{config}/{split}"
    return check_rows(read_table(data, config, split), name, fields, lists)


def check_rows(rows: Sequence[HubRow], name: str, fields: Sequence[str], lists: Sequence[str] = ()) -> list[HubRow]:
    """The rows of the table ``name`` as `read_rows` gives them."""
    if not rows:
        raise UserError(f"The configuration '{name}' has no rows, its file is empty: get it again.")
    if missing := missing_fields(rows, fields):
        raise Absent(f"the configuration '{name}' lacks the field {' and '.join(missing)}")
    faults = [
        (number, field, fault)
        for field in fields
        for number, row in enumerate(rows)
        if (
            fault := (fault_of_texts if field in lists else fault_of_text)(row.get(field)) or fault_of_blank(row[field])
        )
    ]
    if faults:
        number, field, fault = min(faults)
        raise UserError(sentence_on_fault(name, number, field, fault, len(faults), field in lists))
    return [{field: as_list(row[field]) if field in lists else row[field] for field in fields} for row in rows]


def fault_of_blank(value: str | list[str]) -> str:
    """What is wrong with a text, or with one of several, that has nothing to score; empty where each has something."""
    return "" if all(text.strip() for text in as_list(value)) else "an empty text"


def sentence_on_fault(name: str, number: int, field: str, fault: str, count: int, takes_list: bool) -> str:
    """The first fault of a table, with the number of all."""
    if fault == "nothing":
        return (
            f"Row {number} of the configuration '{name}' has no {field} ({count} such gaps in all): "
            "fill it in or take the row out; nothing stands in for it."
        )
    belongs = "a text or a list of texts" if takes_list else "a text"
    return (
        f"Row {number} of the configuration '{name}' has as its {field} {fault}, where {belongs} belongs ({count} such "
        "faults in all): mend it or take the row out."
    )


def as_list(value: Any) -> Any:
    """A text that stands alone as a list of one, a list as it is."""
    return [value] if isinstance(value, str) else value


def missing_fields(rows: Sequence[HubRow], fields: Sequence[str]) -> list[str]:
    """Those of the ``fields`` that no row has."""
    return [field for field in fields if not any(field in row for row in rows)]


def check_hub(data: str) -> None:
    """`UserError` unless ``data`` can be a data set's name on a hub that may be asked."""
    if data.count("/") != 1 or data.startswith((".", "/", "~")):
        raise UserError(f"There is no data folder '{data}': name a folder in the benchmark's layout, or a hub's id.")
    if not os.environ.get("HF_HUB_OFFLINE"):
        from bench.assets.hub import require_hub

        require_hub(f"read {data}")


@contextlib.contextmanager
def explain_broken_file(place: str, config: str) -> Iterator[None]:
    """A broken file as a `UserError`."""
    try:
        yield
    except (UserError, Absent, MemoryError):
        raise
    except Exception as error:  # the library's parsers raise their own errors, StopIteration and what not
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise UserError(
            f"A file of the configuration '{config}' of '{Path(place).name}' can't be read ({shorten_reason(cause)}): "
            "get it again."
        ) from error


def read_table(place: str, config: str, split: str = "train") -> list[HubRow]:
    """The rows of ``load_dataset(place, config, split=split)``, of JSON and CSV files each value as it stands there.

    The library makes dates of texts, and of mixed types whatever goes; so it only says which files a table has, where the
    folder's card doesn't list them by their names. A folder is read anew each time: the library's cache goes by the
    folder's name and gives the rows of an earlier state of it, or of another folder of that name. Raises `Absent` where
    there is no such table, and `UserError` where its file is broken, or where ``place`` is neither a folder nor a data
    set of a hub that can be reached.
    """
    folder = Path(place).expanduser()
    local = folder.is_dir()
    if not local:
        check_hub(place)
    elif listed := listed_files(folder, config, split):
        with explain_broken_file(place, config):
            return [row for file in listed for row in read_plain(file)]
    from datasets import load_dataset, load_dataset_builder

    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))  # progress bars
        where = str(folder) if local else place
        cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="msa-bench-data-")) if local else None
        with explain_broken_file(place, config):
            try:
                about = load_dataset_builder(where, config, cache_dir=cache).config
            except (ValueError, FileNotFoundError) as error:
                raise absent_table(config, split, shorten_reason(error)) from error
            files = (about.data_files or {}).get(split, []) if local else []
            if local and not files:
                raise absent_table(config, split, f"it has {', '.join(about.data_files or {}) or 'no files'}")
            if files and all(is_plain(file, about) for file in files):
                return [row for file in files for row in read_plain(Path(file))]
            tables = load_dataset(where, config, cache_dir=cache, keep_in_memory=local or None)
            if split not in tables:
                raise absent_table(config, split, f"it has {', '.join(tables)}")
            return [dict(row) for row in tables[split]]


def listed_files(folder: Path, config: str, split: str) -> list[Path]:
    """The JSON or CSV files of a table that the folder's card lists by their names; none where the library has to look.

    The library takes a second to load, and is needed for patterns, options, other formats and a table that is amiss.
    """
    from huggingface_hub import metadata_load

    try:
        (about,) = [each for each in metadata_load(folder / "README.md")["configs"] if each["config_name"] == config]
        given = about["data_files"]
        if isinstance(given, str) or all(isinstance(each, str) for each in given):
            given = [{"split": "train", "path": given}]
        names = {each["split"]: as_list(each["path"]) for each in given}
        paths = [Path(name) for listed in names.values() for name in listed]
        plain = (
            about.keys() <= {"config_name", "data_files", "default"}
            and len(names) == len(given)
            and all(each.keys() == {"split", "path"} and each["split"].isidentifier() for each in given)
            and all(isinstance(listed, list) for listed in names.values())
            and all(is_name_of_file(folder, path) for path in paths)
            and not (folder / ".huggingface.yaml").exists()  # which would go before the card
        )
    except Exception:  # no card, no YAML, no such table, or of another shape
        return []
    kinds = {"json" if path.suffix in JSON else CSV.get(path.suffix) for path in paths}
    if not plain or len(kinds) != 1 or None in kinds:
        return []
    return [folder / name for name in names.get(split, [])]


def is_name_of_file(folder: Path, path: Path) -> bool:
    """Whether a path says which file below the folder it means, and is no pattern and no address."""
    parts = {*path.parts, *str(path)}
    return not path.is_absolute() and not parts & {"..", "*", "?", "[", ":"} and (folder / path).is_file()


def absent_table(config: str, split: str, reason: str) -> Absent:
    """The reason why a table can't be had."""
    return Absent(f"the data have no '{split}' of the configuration '{config}' ({reason})")


def is_plain(file: str, about: Any) -> bool:
    """Whether a table's file is JSON or CSV that lies here, and its configuration has no options for reading it."""
    options = [option for option in dataclasses.fields(about) if option.name not in OURS]
    usual = all(getattr(about, option.name) == option.default for option in options)
    return usual and Path(file).suffix in (*JSON, *CSV) and Path(file).is_file()


def read_plain(file: Path) -> Iterator[HubRow]:
    """The rows of a JSON or CSV file; a list of texts has the rows' one field, ``text``."""
    if file.suffix in CSV:
        yield from read_csv_rows(file, CSV[file.suffix])
        return
    for number, row in read_json_rows(file):
        if isinstance(row, str):
            row = {"text": row}
        if not isinstance(row, dict):
            raise UserError(f"{file.name}, row {number}: it is no object: write the fields' names with their values.")
        yield row
