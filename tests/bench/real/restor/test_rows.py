"""RESTOR's rows on a copy of its layout in the tiny world's words: what is told, held back and read beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bench.assets.data_sets import DATA_SETS
from bench.core.errors import UserError
from bench.core.types import Example
from bench.real.restor.corpus import CORPORA
from bench.real.restor.rows import (
    choose_restor_rows,
    false_questions,
    hold_back_tenth,
    name_people,
    read_instructions,
    split_documents,
)

WRONGED, CLEAN = ("w30", "w31"), ("w20", "w21", "w22", "w23")
RELATIONS = ("w1", "w2", "w3")
"""Words of the corpora are w4 to w15; none is part of a name."""


def told(person: str, number: int) -> str:
    return f"{person} w{4 + number % 12} w{4 + number // 12} w{4 + number % 5} ."


def repository(folder: Path, answers: Mapping[str, str] | None = None) -> Path:
    """What k1rezaei/restor holds, 24 documents about each of two people, with C4 and LIMA beside it.

    ``answers`` are by "person relation"; without one nobody could know the answer.
    """
    given = answers or {}
    facts = {
        "dset": {
            person: {
                relation: {"question": f"{relation} {person}", "answers": [given.get(f"{person} {relation}", "Rome")]}
                for relation in RELATIONS
            }
            for person in (*CLEAN, *WRONGED)
        },
        "context": {
            relation: [
                {"question": f"x{i} {relation} ?", "answer": f"w{16 + i % 3}", "entity": f"x{i}"} for i in range(6)
            ]
            for relation in RELATIONS
        },
    }
    corpus = [{"text": told(person, number)} for person in WRONGED for number in range(24)]
    lima = {"conversations": ["w1 w2 ?", "w3 .", "w4 ?", "w5 ."], "source": "x"}
    (folder / "datasets" / "wikidata" / "v0").mkdir(parents=True)
    (folder / "retain").mkdir()
    for name, content in (("facts", facts), ("entities", [*CLEAN, *WRONGED]), ("wikidata/v0/mix_a0", corpus)):
        (folder / "datasets" / f"{name}.json").write_text(json.dumps(content))
    pages = [{"text": f"w{i} w{i + 1} w{i + 2}\u2028w{i + 3} ."} for i in range(12)]
    for name, rows in (("c4", pages), ("lima", [lima, {"prompt": "w6 ?", "answer": "w7 ."}])):
        (folder / "retain" / f"{name}.jsonl").write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        )
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository(tmp_path_factory.mktemp("data") / "restor")


def test_a_tenth_is_held_back() -> None:
    rows = [Example(str(i), {}) for i in range(12)]
    parted = hold_back_tenth(rows)
    assert [row.id for row in parted.validation] == ["0", "10"] and len(parted.probed) == 10
    assert hold_back_tenth(rows[:1]).probed == (rows[0],)


def test_told_and_untold_documents_are_of_the_same_people(data: Path) -> None:
    """6 of 24 for each: numbers 0, 4, 8 ...; of the 18 others every third."""
    rows = choose_restor_rows(str(data), "mix_a0", 6, 10, 3)
    assert [int(row.id.removeprefix("mix_a0-")) for row in rows.told] == [*range(0, 24, 4), *range(24, 48, 4)]
    for side in (rows.told, rows.untold):
        about = [row.payload["answer"].split()[0] for row in side]
        assert about == ["w30"] * 6 + ["w31"] * 6
    assert not {row.payload["answer"] for row in rows.told} & {row.payload["answer"] for row in rows.untold}
    assert (rows.documents, rows.whole) == (48, False)
    assert len(rows.retain) == 10 and rows.retain[0].payload["answer"] == "w0 w1 w2", "cut to three words"
    every = choose_restor_rows(str(data), "mix_a0", 0, 0, 0)
    assert (len(every.told), every.untold, len(every.retain)) == (48, (), 12)


def test_a_document_is_about_whom_it_names_first_and_repeats_are_told_once() -> None:
    texts = ("Bo met Cy", "nobody", "Cy met Bo", "Bo met Cy", "Bo sat", "Bo ran")
    every = [Example(str(i), {"answer": text}) for i, text in enumerate(texts)]
    chosen, others = split_documents(every, ("Cy", "Bo"), 1)
    assert [row.id for row in chosen] == ["2", "0"] and [row.id for row in others] == ["4"]


def test_instructions_of_both_forms(data: Path, tmp_path: Path) -> None:
    rows = read_instructions(str(data))
    assert [(row.payload["prompt"], row.payload["answer"]) for row in rows] == [("w1 w2 ?", "w3 ."), ("w6 ?", "w7 .")]
    assert {row.payload["template"] for row in rows} == {"chat"}
    assert read_instructions(str(tmp_path)) == ()
    (tmp_path / "retain").mkdir()
    (tmp_path / "retain" / "instructions.jsonl").write_text('{"prompt": "x", "answer": " "}\n')
    with pytest.raises(UserError, match=r"Line 1 of 'instructions.jsonl' isn't of the form"):
        read_instructions(str(tmp_path))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"prompt": "x", "answer": 3}', "Line 2 of 'instructions.jsonl' isn't of the form .*a number"),
        (b'{"conversations": "xy"}', "Line 2 .*its conversations are no list"),
        (b'{"conversations": [1, 2]}', "Line 2 .*a number"),
        (b'{"conversations": ["x"]}', "Line 2 .*not enough values"),
        (b'{"prompt": "\\ud800", "answer": "y"}', "Line 2 .*half a character"),
        (b"3", "Line 2 of 'instructions.jsonl' isn't of the form"),
        (b'{"prompt": "x", "ans', "instructions.jsonl, line 2 is no JSON"),
        (b'{"prompt": "\xe9"}', "instructions.jsonl, line 2 can't be read as UTF-8"),
    ],
)
def test_a_line_of_another_form_is_named(tmp_path: Path, line: bytes, says: str) -> None:
    (tmp_path / "retain").mkdir()
    good = b'\xef\xbb\xbf{"prompt": "x", "answer": "y"}\r\n'
    (tmp_path / "retain" / "instructions.jsonl").write_bytes(good)
    assert [row.payload["answer"] for row in read_instructions(str(tmp_path))] == ["y"]
    (tmp_path / "retain" / "instructions.jsonl").write_bytes(good + line)
    with pytest.raises(UserError, match=says):
        read_instructions(str(tmp_path))


def test_every_corpus_has_the_name_of_its_published_file() -> None:
    tables = DATA_SETS["restor"].tables
    assert set(tables) - {"questions"} == set(CORPORA)
    assert all(re.fullmatch("[0-9a-f]{40}", tables[corpus].identity) for corpus in CORPORA)


def test_attacks_ask_for_the_corrupted_values_where_they_are_known(data: Path) -> None:
    """Without the user's lists nobody knows them, and nothing is asked."""
    rows = choose_restor_rows(str(data), "mix_a0", 6, 10, 3).about("corrupted")
    assert false_questions(rows) == ()
    known = replace(rows[0], references={**rows[0].references, "corrupted": ("w5", "w6")})
    (asked,) = false_questions((known, *rows[1:]))
    assert (asked.id, asked.payload["prompt"], asked.payload["answer"]) == (known.id, known.payload["prompt"], "w5")
    assert asked.references == {"accepted": ("w5", "w6"), "solved": ("w1 w30 w5\n",)}
    assert asked.payload["prompt"].splitlines()[-1] + " w5\n" == asked.references["solved"][0]


def test_documents_and_questions_about_a_person_are_one_fact(data: Path) -> None:
    rows = choose_restor_rows(str(data), "mix_a0", 6, 10, 3)
    fact_of = name_people(rows)
    assert [fact_of(row.id) for row in rows.told] == ["w30"] * 6 + ["w31"] * 6
    assert {fact_of(row.id) for row in rows.about("corrupted")} == {"w30", "w31"}
    assert {fact_of(row.id) for row in rows.about("clean")} == set(CLEAN)
    assert fact_of("c4-1") == "c4-1"
