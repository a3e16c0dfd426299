"""Rows of a folder in the hub's layout, as they are now."""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.assets import hub_tables
from bench.assets.hub_tables import HubRow, read_rows, read_table
from bench.core.errors import Absent, UserError
from tests.bench.assets.test_typed_rows import JSON

CARD = "---\nconfigs:\n- config_name: asked\n  data_files: asked.jsonl\n---\n"


def write(folder: Path, *questions: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(CARD)
    (folder / "asked.jsonl").write_text("".join(json.dumps({"question": text}) + "\n" for text in questions))


def test_an_edited_file_is_read_anew_and_a_namesake_is_another(tmp_path: Path) -> None:
    """The library's own cache gives the first rows three times: it goes by the folder's name."""
    first, second = tmp_path / "a" / "data", tmp_path / "b" / "data"
    write(first, "one", "two")
    assert [row["question"] for row in read_table(str(first), "asked")] == ["one", "two"]
    write(first, "three")
    assert [row["question"] for row in read_table(str(first), "asked")] == ["three"]
    write(second, "four")
    assert [row["question"] for row in read_table(str(second), "asked")] == ["four"]


def test_a_missing_configuration_or_split_is_absent(tmp_path: Path) -> None:
    write(tmp_path / "data", "one")
    with pytest.raises(Absent, match="no 'train' of the configuration 'other' .*asked"):
        read_table(str(tmp_path / "data"), "other")
    with pytest.raises(Absent, match="no 'test' of the configuration 'asked' .it has train"):
        read_table(str(tmp_path / "data"), "asked", "test")


def table(folder: Path, content: str | bytes, name: str = "asked.jsonl") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(CARD.replace("asked.jsonl", name))
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder)


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


GOOD = {"question": "who", "answer": "Ada", "wrong": ["Bob", "Cy"]}
FIELDS = ("question", "answer", "wrong")


def typed(place: str) -> list[HubRow]:
    return read_rows(place, "asked", "train", FIELDS, ["wrong"])


@pytest.mark.parametrize("name", ["asked.jsonl", "asked.parquet", "asked.arrow"])
def test_a_text_alone_is_a_list_of_one_and_what_isnt_asked_for_is_left_out(tmp_path: Path, name: str) -> None:
    rows = [GOOD | {"wrong": "Bob", "year": 1945}] * 2
    place = table(tmp_path / "data", lines(*rows), name)
    if name != "asked.jsonl":
        write_arrow(tmp_path / "data" / name, rows)
    assert typed(place) == [{"question": "who", "answer": "Ada", "wrong": ["Bob"]}] * 2
    if name == "asked.jsonl":
        (tmp_path / "data" / name).write_text(lines(GOOD, rows[0]))
        assert [row["wrong"] for row in typed(place)] == [["Bob", "Cy"], ["Bob"]]


def write_arrow(path: Path, rows: list[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pq.write_table(found, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, found.schema) as stream:
            stream.write_table(found)


def test_a_csv_tables_texts_stay_texts(tmp_path: Path) -> None:
    place = table(tmp_path / "data", 'question,answer,wrong\nwhen,1945,NA\n"who, then",null,2020-01-01\n', "asked.csv")
    assert typed(place) == [
        {"question": "when", "answer": "1945", "wrong": ["NA"]},
        {"question": "who, then", "answer": "null", "wrong": ["2020-01-01"]},
    ]


def test_texts_that_look_like_dates_stay_texts(tmp_path: Path) -> None:
    """The library makes datetimes of a column that has nothing else."""
    dated = {"question": "2020-01-01 00:00:00", "answer": "2020-01-01", "wrong": ["2021-01-01"]}
    assert typed(table(tmp_path / "data", lines(dated, dated))) == [dated] * 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"answer": 1945},
            "Row 1 of the configuration 'asked' has as its answer a number, where a text belongs (1 such",
        ),
        ({"answer": True}, "has as its answer true or false"),
        ({"answer": {"text": "Ada"}}, "has as its answer an object"),
        ({"answer": ["Ada"]}, "has as its answer a list"),
        ({"answer": None}, "Row 1 of the configuration 'asked' has no answer (1 such gaps in all)"),
        ({"question": "\ud800"}, "has as its question a text with half a character"),
        ({"wrong": []}, "has as its wrong an empty list, where a text or a list of texts belongs"),
        ({"wrong": [["Bob"]]}, "has as its wrong a list that holds a list"),
        ({"wrong": ["Bob", 3]}, "has as its wrong a list that holds a number"),
        ({"wrong": {"a": "Bob"}}, "has as its wrong an object"),
        ({"wrong": 3.5}, "has as its wrong a number"),
    ],
)
def test_a_field_of_another_type_is_named_with_its_row(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    place = table(tmp_path / "data", lines(GOOD, GOOD | change, GOOD))
    with pytest.raises(UserError) as told:
        typed(place)
    assert says in told.value.problems[0] and len(told.value.problems) == 1


def test_a_field_that_one_row_lacks_is_a_gap_and_one_that_all_lack_is_absent(tmp_path: Path) -> None:
    less = {name: value for name, value in GOOD.items() if name != "wrong"}
    for first, other in ((GOOD, less), (less, GOOD)):
        with pytest.raises(UserError, match="has no wrong .1 such gaps in all"):
            typed(table(tmp_path / "data", lines(first, other)))
    with pytest.raises(Absent, match="the configuration 'asked' lacks the field wrong"):
        typed(table(tmp_path / "data", lines(less, less)))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("asked.jsonl", lines(GOOD).encode() + b'{"question": "\xe9"}', "asked.jsonl, line 2 can't be read as UTF-8"),
        ("asked.jsonl", lines(GOOD, GOOD)[:-20], "asked.jsonl, line 2 is no JSON"),
        ("asked.jsonl", lines(GOOD, 3), "asked.jsonl, row 2: it is no object"),
        ("asked.jsonl", "", "has no rows, its file is empty"),
        ("asked.csv", "question,answer,wrong\na,b\n", "asked.csv, line 2 has 2 columns and not 3"),
        ("asked.parquet", b"PAR1 and no more", "A file of the configuration 'asked' of 'data' can't be read"),
        ("asked.parquet", b"", "A file of the configuration 'asked' of 'data' can't be read"),
        ("asked.arrow", b"\x00" * 40, "A file of the configuration 'asked' of 'data' can't be read"),
        ("asked.jsonl.gz", b"\x1f\x8bno", "A file of the configuration 'asked' of 'data' can't be read"),
    ],
)
def test_a_broken_file_is_an_error_and_nothing_absent(
    tmp_path: Path, name: str, content: str | bytes, says: str
) -> None:
    with pytest.raises(UserError) as told:
        typed(table(tmp_path / "data", content, name))
    assert says in str(told.value) and len(told.value.problems) == 1 and "\n" not in str(told.value)


def test_a_compressed_file_and_a_configuration_with_options_are_the_librarys(tmp_path: Path) -> None:
    place = table(tmp_path / "data", gzip.compress(lines(GOOD, GOOD).encode()), "asked.jsonl.gz")
    assert typed(place) == [GOOD] * 2
    folder = Path(table(tmp_path / "other", json.dumps({"rows": [GOOD]}), "asked.json"))
    (folder / "README.md").write_text(CARD.replace("asked.jsonl", "asked.json\n  field: rows"))
    assert typed(str(folder)) == [GOOD]


def test_a_broken_card_is_a_sentence(tmp_path: Path) -> None:
    place = table(tmp_path / "data", lines(GOOD))
    (tmp_path / "data" / "README.md").write_text("---\nconfigs: [\n---\n")
    with pytest.raises((UserError, Absent)):
        typed(place)


PLAIN = (
    "asked.jsonl",
    "[asked.jsonl, more.json]",
    "\n  - {split: train, path: more.json}\n  - {split: test, path: asked.jsonl}",
)
LIBRARYS = (
    "'*.jsonl'",
    "[asked.jsonl, other.csv]",
    "none.jsonl",
    "../data/asked.jsonl",
    "asked.jsonl\n  data_dir: .",
    "\n  - {split: train, path: more.json}\n  - {split: train, path: asked.jsonl}",
    "asked.jsonl\n- config_name: asked\n  data_files: more.json",
    "5",
    "{asked.jsonl: 1}",
    "\n  - {split: a-b, path: asked.jsonl}",
    "\n  - {split: train, path: asked.jsonl, more: 1}",
    "a::b.jsonl",
    f"{'x' * 300}.json",
)


@pytest.mark.parametrize("data_files", [*PLAIN, *LIBRARYS])
def test_a_card_that_lists_files_is_read_as_the_library_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_files: str
) -> None:
    """Files that it lists by their names need no library; whatever else stands there is the library's to say."""
    place = table(tmp_path / "data", lines({"question": "one"}, {"question": "two"}))
    (tmp_path / "data" / "more.json").write_text(json.dumps([{"question": "three"}]))
    (tmp_path / "data" / "a::b.jsonl").write_text(lines({"question": "five"}))
    (tmp_path / "data" / "other.csv").write_text("question\nfour\n")
    (tmp_path / "data" / "README.md").write_text(CARD.replace("asked.jsonl", data_files))

    def told(split: str) -> Any:
        with contextlib.suppress(Absent, UserError):
            return read_table(place, "asked", split)

    plain = {split: hub_tables.listed_files(Path(place), "asked", split) for split in ("train", "test")}
    assert any(plain.values()) == (data_files in PLAIN)
    found = {split: told(split) for split in plain}
    monkeypatch.setattr(hub_tables, "listed_files", lambda *_: [])
    assert found == {split: told(split) for split in plain}
    assert data_files not in PLAIN or found["train"]


def test_a_file_that_goes_before_the_card_is_the_librarys(tmp_path: Path) -> None:
    place = table(tmp_path / "data", lines({"question": "one"}))
    (tmp_path / "data" / "more.json").write_text(json.dumps([{"question": "two"}]))
    (tmp_path / "data" / ".huggingface.yaml").write_text("configs:\n- config_name: asked\n  data_files: more.json\n")
    assert read_table(place, "asked") == [{"question": "two"}]


def test_a_table_that_its_card_lists_is_read_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = table(tmp_path / "data", lines(GOOD))
    monkeypatch.setitem(sys.modules, "datasets", None)  # an import of it fails
    assert typed(place) == [GOOD]


@settings(deadline=None, max_examples=40)
@given(st.lists(JSON | st.fixed_dictionaries(dict.fromkeys(FIELDS, JSON)), max_size=3))
def test_any_rows_are_rows_of_texts_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    place = table(tmp_path_factory.getbasetemp() / "any", lines(*rows))
    try:
        found = typed(place)
    except (UserError, Absent) as error:
        str(error).encode()
        return
    assert len(found) == len(rows)
    for row, given_row in zip(found, rows, strict=True):
        assert [row["question"], row["answer"]] == [given_row["question"], given_row["answer"]]
        assert all(isinstance(text, str) for text in (row["question"], row["answer"], *row["wrong"])) and row["wrong"]


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=40), st.sampled_from(["asked.jsonl", "asked.csv", "asked.tsv"]))
def test_any_file_is_rows_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    with contextlib.suppress(UserError, Absent):
        typed(table(tmp_path_factory.getbasetemp() / "file", content, name))
