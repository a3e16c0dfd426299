"""Reading files of rows (JSON, a row a line or one list; CSV) strictly, and saying what is wrong with a field's value.

What is doubtful is a `UserError` with the file and the line, and never another value: a byte that is no UTF-8, a file
cut short, a key that stands twice. A byte-order mark is read over.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.core.errors import UserError
from bench.core.texts import one_line

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""Characters that UTF-8 can't encode."""
TYPES = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
"""Types of JSON that are no text, in words."""
LONGEST = 1 << 30
"""Characters of a CSV file's value; a book is one value."""
FORM = "write one object a line, or one list"


def read_file(path: Path) -> str:
    """The text of a file in UTF-8, without a byte-order mark; `UserError` names the line of a byte that is none."""
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no file '{path.name}' any more: name it again with --data.") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path.name}, line {line} can't be read as UTF-8 text (byte 0x{data[error.start]:02x}): save the file as "
            "UTF-8, or get it again."
        ) from None
    except OSError as error:
        raise UserError(f"{path.name} can't be read ({error.strerror}): a file of rows belongs there.") from None


def parse_json(text: str, wrong: str, remedy: str = FORM) -> Any:
    """What a JSON text says; `UserError` is between ``wrong`` and ``remedy`` where it isn't JSON, or says a key twice."""
    try:
        return json.loads(text, object_pairs_hook=without_repetitions)
    except (ValueError, RecursionError) as error:
        what = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{wrong} ({one_line(what)}): {remedy}.") from None


def without_repetitions(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; ValueError where a key stands in it twice, as readers differ in which they take."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"the key '{next(name for name in names if names.count(name) > 1)}' stands twice in one object"
        )
    return made


def read_json(path: Path) -> Any:
    """What a JSON file says, whole."""
    return parse_json(read_file(path), f"Can't read '{path.name}' as JSON", "get it again, whole")


def read_json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Each row of a JSON file with its line, or with its place in a file that is one list; both from 1.

    A file that is a single object, on as many lines as it likes, is one row.
    """
    text = read_file(path)
    if text.lstrip().startswith("["):
        yield from enumerate(parse_json(text, f"{path.name} begins as a JSON list and isn't one"), 1)
        return
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and lines[0][1].strip() == "{":
        yield lines[0][0], parse_json(text, f"{path.name} begins as a JSON object and isn't one")
        return
    for number, line in lines:
        yield number, parse_json(line, f"{path.name}, line {number} is no JSON")


def read_csv_rows(path: Path, separator: str) -> Iterator[dict[str, str]]:
    """Each row of a CSV file with a line of names at its top; every value is the text that stands there."""
    csv.field_size_limit(LONGEST)
    lines = csv.reader(io.StringIO(read_file(path), newline=""), delimiter=separator, strict=True)
    try:
        names = next(lines, [])
        if len(set(names)) < len(names):
            raise UserError(f"{path.name} has a column's name twice: give each its own.")
        for row in filter(None, lines):
            if len(row) != len(names):
                raise UserError(
                    f"{path.name}, line {lines.line_num} has {len(row)} columns and not {len(names)}: put texts with "
                    f"'{separator}' in quotes."
                )
            yield dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise UserError(f"{path.name}, line {lines.line_num} is no CSV ({error}): mend it.") from None


def fault_of_text(value: Any) -> str:
    """What is wrong with a value that must be a text, as in "it is ..."; empty for one. An empty text is a text."""
    if value is None:
        return "nothing"
    if not isinstance(value, str):
        return TYPES.get(type(value), f"of the type {type(value).__name__}")
    return "a text with half a character (a lone surrogate)" if LONE_SURROGATE.search(value) else ""


def fault_of_texts(value: Any) -> str:
    """What is wrong with a value that must be a list of texts, at least one; empty for a list and for a text alone."""
    if not isinstance(value, list):
        return fault_of_text(value)
    if not value:
        return "an empty list"
    return next((f"a list that holds {fault}" for fault in map(fault_of_text, value) if fault), "")
