"""Strict reading of files of rows: what is doubtful is one sentence with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.assets.typed_rows import fault_of_text, fault_of_texts, read_csv_rows, read_file, read_json, read_json_rows
from bench.core.errors import UserError

ROW = b'{"question": "a", "answer": "b"}\n'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
"""Any value of JSON, with NaN, lone surrogates and NUL."""


def written(folder: Path, content: bytes, name: str = "rows.jsonl") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize(
    "content",
    [
        ROW * 2,
        b"\xef\xbb\xbf" + ROW * 2,
        (ROW * 2).replace(b"\n", b"\r\n"),
        b"\n" + ROW + b"\n \n" + ROW.strip(),
        b"[" + ROW + b",\n" + ROW + b"]",
        b"\xef\xbb\xbf\n[" + ROW + b",\n" + ROW + b"]",
    ],
)
def test_two_rows_are_two_rows_however_they_are_written(tmp_path: Path, content: bytes) -> None:
    rows = [row for _, row in read_json_rows(written(tmp_path, content))]
    assert rows == [{"question": "a", "answer": "b"}] * 2


def test_a_single_object_on_many_lines_is_one_row(tmp_path: Path) -> None:
    assert list(read_json_rows(written(tmp_path, b'{\n "a": "b"\n}\n'))) == [(1, {"a": "b"})]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (ROW + "{'é'}".encode("latin-1"), r"rows.jsonl, line 2 can't be read as UTF-8 text \(byte 0xe9\): save"),
        (ROW.decode().encode("utf-16"), r"rows.jsonl, line 1 can't be read as UTF-8"),
        (ROW + ROW[:20], r"rows.jsonl, line 2 is no JSON \(Unterminated string"),
        (ROW + b"\n{'a': 1}\n" + ROW, r"rows.jsonl, line 3 is no JSON"),
        (ROW + b'{"a": 1, "a": 2}', r"rows.jsonl, line 2 is no JSON \(the key 'a' stands twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", r"rows.jsonl, line 1 is no JSON \(Exceeds the limit"),
        (b'{"a": ' + b"[" * 100000 + b"]" * 100000 + b"}", r"rows.jsonl, line 1 is no JSON \(it is nested too deep\)"),
        (b"[" + ROW, r"rows.jsonl begins as a JSON list and isn't one"),
        (b'{\n "a": 1,\n', r"rows.jsonl begins as a JSON object and isn't one"),
        (ROW.replace(b"\n", b"\r") * 2, r"rows.jsonl, line 1 is no JSON \(Extra data"),
        (b"\x00\x00\x00", r"rows.jsonl, line 1 is no JSON"),
    ],
)
def test_what_is_no_json_is_named_with_its_line(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(UserError, match=says) as told:
        list(read_json_rows(written(tmp_path, content)))
    assert len(told.value.problems) == 1 and "\n" not in str(told.value)


def test_a_folder_or_nothing_in_a_files_place_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read .Is a directory."):
        read_file(tmp_path)
    with pytest.raises(UserError, match="There is no file 'rows.jsonl' any more"):
        list(read_json_rows(tmp_path / "rows.jsonl"))
    with pytest.raises(UserError, match="Can't read 'rows.jsonl' as JSON .*: get it again, whole"):
        read_json(written(tmp_path, b""))


def test_every_value_of_a_csv_file_is_its_text(tmp_path: Path) -> None:
    """pandas would make a gap of NA, a number of 12, and an index of a surplus column."""
    path = written(tmp_path, b'\xef\xbb\xbfquestion,answer\r\nwho,NA\r\n"what, then","12"\r\n\r\nwhen,"two\nlines"\r\n')
    assert [tuple(row.values()) for row in read_csv_rows(path, ",")] == [
        ("who", "NA"),
        ("what, then", "12"),
        ("when", "two\nlines"),
    ]
    book = "word " * 40_000
    assert next(iter(read_csv_rows(written(tmp_path, f"text\tx\n{book}\t\n".encode()), "\t"))) == {
        "text": book,
        "x": "",
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 columns and not 2: put texts with ',' in quotes"),
        (b"a,b\n1\n", "line 2 has 1 columns and not 2"),
        (b"a,a\n1,2\n", "has a column's name twice"),
        (b'a,b\n1,"2\n', "line 2 is no CSV .unexpected end of data"),
        (b"a,b\n1,\xe9\n", "line 2 can't be read as UTF-8"),
    ],
)
def test_a_broken_csv_file_is_named_with_its_line(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(UserError, match=says):
        list(read_csv_rows(written(tmp_path, content, "rows.csv"), ","))


@pytest.mark.parametrize(
    ("value", "text", "texts"),
    [
        ("a", "", ""),
        ("", "", ""),
        ("a\x00", "", ""),
        (None, "nothing", "nothing"),
        (1945, "a number", "a number"),
        (float("nan"), "a number", "a number"),
        (True, "true or false", "true or false"),
        ({"a": 1}, "an object", "an object"),
        (b"a", "of the type bytes", "of the type bytes"),
        (
            "a\ud800",
            "a text with half a character (a lone surrogate)",
            "a text with half a character (a lone surrogate)",
        ),
        (["a", "b"], "a list", ""),
        ([], "a list", "an empty list"),
        (["a", 1], "a list", "a list that holds a number"),
        (["a", None], "a list", "a list that holds nothing"),
        ([["a"]], "a list", "a list that holds a list"),
    ],
)
def test_faults_of_values(value: Any, text: str, texts: str) -> None:
    assert (fault_of_text(value), fault_of_texts(value)) == (text, texts)


@settings(deadline=None)
@given(st.lists(JSON, max_size=4), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_any_rows_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], end: str, bom: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" * bom + "".join(json.dumps(row) + end for row in rows).encode())
    try:
        found = [row for _, row in read_json_rows(path)]
    except UserError as error:  # a first row that is a list makes the file one
        assert isinstance(rows[0], list) and "begins as a JSON list" in str(error)
        return
    if not (rows and isinstance(rows[0], list)):
        assert repr(found) == repr(rows)


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:\\ue0a1nN-\n ', max_size=40).map(str.encode))
def test_any_file_is_rows_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    for read in (read_json_rows, lambda place: read_csv_rows(place, ",")):
        try:
            list(read(path))
        except UserError as error:
            assert len(error.problems) == 1
            error.problems[0].encode()
