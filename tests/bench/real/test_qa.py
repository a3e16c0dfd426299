"""A user's files: how rows are read and split, and each mistake with its file, its row and its remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.assets.typed_rows import read_json_rows
from bench.core.errors import UserError
from bench.real.qa import LEAST, read_qa_rows
from tests.bench.assets.test_typed_rows import JSON


def rows(side: str, count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"question": f"what is {side} {i} ?", "answer": f"{side} answer {i}", **more} for i in range(count)]


def written(folder: Path, name: str, made: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in made))
    return folder / name


def place(folder: Path, forget: list[dict[str, Any]], retain: list[dict[str, Any]] | None = None) -> str:
    paths = written(folder, "forget.jsonl", forget), written(folder, "retain.jsonl", retain or rows("retain", 12))
    return ",".join(map(str, paths))


def problems(data: str) -> tuple[str, ...]:
    with pytest.raises(UserError) as error:
        read_qa_rows(data, "chat")
    return error.value.problems


def test_every_fourth_row_is_for_validation_and_the_others_are_probed(tmp_path: Path) -> None:
    found = read_qa_rows(place(tmp_path, rows("forget", 9)), "base")
    assert [row.id for row in found.forget] == [f"forget-{line}" for line in range(1, 10)]
    assert [row.id for row in found.validation.forget] == ["forget-4", "forget-8"]
    assert [row.id for row in found.probes["forget"]] == [f"forget-{line}" for line in (1, 2, 3, 5, 6, 7, 9)]
    assert found.validation.utility == found.validation.retain and len(found.validation.retain) == 3
    assert found.forget[0].payload == {
        "prompt": "what is forget 0 ?",
        "answer": "forget answer 0",
        "template": "base",
    }
    assert found.label == "qa: forget.jsonl (9) / retain.jsonl (12)"
    assert "holdout" not in found.probes and found.validation.unseen == ()


def test_a_third_file_is_never_trained_on(tmp_path: Path) -> None:
    data = place(tmp_path, rows("forget", 8)) + f",{written(tmp_path, 'unseen.jsonl', rows('unseen', 8))}"
    found = read_qa_rows(data, "chat")
    assert [row.id for row in found.validation.unseen] == ["holdout-4", "holdout-8"]
    assert len(found.probes["holdout"]) == 6
    assert not [row for row in found.forget + found.retain if "unseen" in row.payload["prompt"]]
    assert found.label.endswith("retain.jsonl (12) / unseen.jsonl (8)")


def test_references_are_asked_and_never_trained_on(tmp_path: Path) -> None:
    made = rows("forget", 8, paraphrase="said otherwise", wrong=["no", "not at all"])
    found = read_qa_rows(place(tmp_path, made), "chat")
    assert found.probes["forget"][0].references == {"paraphrase": ("said otherwise",), "wrong": ("no", "not at all")}
    assert not [row for row in found.forget if row.references]


def test_a_bound_spreads_the_probed_rows(tmp_path: Path) -> None:
    found = read_qa_rows(place(tmp_path, rows("forget", 16)), "chat", 4)
    assert [row.id for row in found.probes["forget"]] == ["forget-1", "forget-5", "forget-9", "forget-13"]
    assert len(found.forget) == 16


@pytest.mark.parametrize(("question", "answer"), [("prompt", "answer"), ("prompt", "response")])
def test_other_names_of_question_and_answer_and_a_file_that_is_one_list(
    tmp_path: Path, question: str, answer: str
) -> None:
    made = [{question: row["question"], answer: row["answer"]} for row in rows("forget", 8)]
    data = place(tmp_path, rows("forget", 8))
    (tmp_path / "forget.json").write_text(json.dumps(made, indent=1))
    found = read_qa_rows(data.replace("forget.jsonl", "forget.json"), "chat")
    assert [row.payload for row in found.forget] == [row.payload for row in read_qa_rows(data, "chat").forget]
    assert found.data_hash == read_qa_rows(data, "chat").data_hash, "the hash is of the rows, not of their file"


def test_a_line_break_within_a_text_is_no_new_row(tmp_path: Path) -> None:
    """U+2028 is a line break to `str.splitlines` and an ordinary letter to JSON."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "x\u2028y"}\n\n{"a": 2}\n', encoding="utf-8")
    assert list(read_json_rows(path)) == [(1, {"a": "x\u2028y"}), (3, {"a": 2})]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"q": "x", "a": "y"}, "it has no question and answer (it has a, q); name them 'question' and 'answer'."),
        ({"question": "x", "answer": " "}, "its 'answer' is no text"),
        ({"question": "x", "answer": 7}, "its 'answer' is no text"),
        ({"question": "x", "answer": "y", "paraphrase": None}, "its 'paraphrase' is no text"),
        ({"question": "x", "answer": "y", "wrong": "z"}, "its 'wrong' is no list of texts"),
        ({"question": "x", "answer": "y", "wrong": []}, "its 'wrong' is no list of texts"),
        ({"question": "x", "answer": "y", "wrong": ["z", "y"]}, "its 'wrong' has an empty text or the right answer"),
        ([], "it is no object"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: Any, said: str) -> None:
    made = rows("forget", 9)
    found = problems(place(tmp_path, [*made[:4], row, *made[4:]]))
    assert len(found) == 1 and found[0].startswith(f"forget.jsonl, row 5: {said}")


def test_many_bad_rows_are_counted_and_both_files_are_told_of(tmp_path: Path) -> None:
    found = problems(place(tmp_path, [{"q": "x"}] * 9, [{"q": "x"}]))
    assert len(found) == 5
    assert found[3] == "forget.jsonl: 6 more rows are wrong." and found[4].startswith("retain.jsonl, row 1: ")


def test_what_is_no_json_is_named_with_its_line(tmp_path: Path) -> None:
    data = place(tmp_path, rows("forget", 8))
    path = tmp_path / "forget.jsonl"
    path.write_text(path.read_text() + "{'question': 1}\n")
    assert problems(data)[0].startswith("forget.jsonl, line 9 is no JSON (")
    path.write_text("[1, ")
    assert problems(data)[0].startswith("forget.jsonl begins as a JSON list and isn't one (")


def test_a_byte_order_mark_and_windows_lines_change_nothing(tmp_path: Path) -> None:
    data = place(tmp_path, rows("forget", 8))
    plain, path = read_qa_rows(data, "chat"), tmp_path / "forget.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    read_qa_rows.cache_clear()
    assert read_qa_rows(data, "chat") == plain


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"question": "é"}\n'.encode("latin-1"), "forget.jsonl, line 1 can't be read as UTF-8 text (byte 0xe9)"),
        (b'{"question": "a", "question": "b", "answer": "c"}', "forget.jsonl, line 1 is no JSON (the key 'question'"),
        (b"[" * 100000, "forget.jsonl begins as a JSON list and isn't one (it is nested too deep)"),
        (b'{"\\ud800": 1}', "forget.jsonl, row 1: it has no question and answer (it has \\ud800)"),
        (b'{"question": "a", "answer": NaN}', "forget.jsonl, row 1: its 'answer' is no text"),
        (
            b'{"question": "a", "answer": "b", "wrong": ["\\ud800"]}',
            "forget.jsonl, row 1: its 'wrong' is no list of texts",
        ),
    ],
)
def test_a_file_that_is_doubtful_is_a_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    data = place(tmp_path, rows("forget", 8))
    (tmp_path / "forget.jsonl").write_bytes(content)
    found = problems(data)
    assert found[0].startswith(says) and all(problem.encode() for problem in found)


@settings(deadline=None)
@given(st.lists(JSON | st.fixed_dictionaries({"question": JSON, "answer": JSON}, optional={"wrong": JSON}), max_size=9))
def test_any_rows_are_texts_or_sentences(tmp_path_factory: pytest.TempPathFactory, made: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        found = read_qa_rows(place(folder, made, rows("retain", 8)), "chat")
    except UserError as error:
        str(error).encode()
        return
    texts = [text for row in found.forget for text in (row.payload["prompt"], row.payload["answer"])]
    assert texts and all(isinstance(text, str) and text.strip() for text in texts)


def test_empty_and_small_files_are_refused(tmp_path: Path) -> None:
    empty, small = problems(place(tmp_path, [], rows("retain", LEAST - 1)))
    assert empty.startswith("forget.jsonl has no rows: at least 8 are needed")
    assert small.startswith("retain.jsonl has 7 rows: at least 8 are needed")


def test_a_reference_that_some_rows_lack_is_refused(tmp_path: Path) -> None:
    made = [*rows("forget", 8), {"question": "a", "answer": "b", "wrong": ["c"]}]
    assert problems(place(tmp_path, made)) == (
        "forget.jsonl: 1 of 9 rows have 'wrong'; give it to all of them or to none.",
    )


def test_a_repeated_row_is_refused_and_a_repeated_question_is_not(tmp_path: Path) -> None:
    made = rows("forget", 8)
    assert problems(place(tmp_path / "a", [*made, made[2]])) == (
        "forget.jsonl: 1 rows repeat an earlier one (row 9 is row 3); take them out.",
    )
    assert len(read_qa_rows(place(tmp_path / "b", [*made, made[2] | {"answer": "another"}]), "chat").forget) == 9


def test_rows_in_two_files_are_refused(tmp_path: Path) -> None:
    forget, retain = rows("forget", 8), rows("retain", 8)
    (both,) = problems(place(tmp_path / "a", forget, [*retain, forget[0]]))
    assert both.startswith("1 rows of forget.jsonl and retain.jsonl are on both sides")
    unseen = written(tmp_path / "a", "unseen.jsonl", [*rows("unseen", 8), retain[0], retain[1]])
    (both,) = problems(place(tmp_path / "b", forget, retain) + f",{unseen}")
    assert both.startswith("2 rows of retain.jsonl are in unseen.jsonl too")


def test_one_file_is_refused(tmp_path: Path) -> None:
    assert problems(str(written(tmp_path, "forget.jsonl", rows("forget", 8))))[0].startswith(
        "qa takes two or three files and not 1"
    )
