"""Which record a few words mean, and what an answer is."""

from __future__ import annotations

import dataclasses
from math import log
from pathlib import Path
from typing import Any

import pytest

from bench.cli.picking import Answer, Wanted, answer_of, pick_record
from bench.core.errors import UserError
from bench.core.record import Record, Step
from bench.records import files
from tests.factories import record, study
from tests.processes import Place


def test_a_record_is_found_by_file_key_or_part_of_its_name(finished: Place) -> None:
    file = finished.files()["msa"]
    made = Record.from_json(finished.records()["msa"])
    for name in (str(file), made.spec.key, made.spec.key[:10], "msa-", "msa", made.name):
        assert pick_record(Wanted(name), finished.out).record == made


def test_of_several_that_fit_the_plainest_is_meant_and_the_others_are_named(tmp_path: Path) -> None:
    """On the first seed, not attacked, of the method itself; a task and a seed choose."""
    made = [r for task in ("tofu", "restor") for r in study(("msa", "npo"), (1, 0), task)]
    attacked = dataclasses.replace(made[0], spec=dataclasses.replace(made[1].spec, attack="leak"))
    plain = record("npo", 0)
    step = Step("npo", {"lr": 1.0}, "small-retain")
    variant = dataclasses.replace(plain, spec=dataclasses.replace(plain.spec, steps=(step,)))
    for each in (*made, attacked, variant):
        files.write_record(each, tmp_path)

    def picked(*words: Any) -> tuple[str, str, int]:
        spec = pick_record(Wanted(*words), tmp_path).record.spec
        return spec.method, spec.task, spec.seed

    assert picked("msa") == ("msa", "restor", 0) and picked("msa", "tofu") == ("msa", "tofu", 0)
    assert picked("npo", "tof", 1) == ("npo", "tofu", 1), "how a task begins will do"
    assert picked("npo@s") == ("npo@small-retain", "tofu", 0)
    note = pick_record(Wanted("npo", "tofu"), tmp_path).note
    assert note.startswith("1 more fit (--task, --seed or a key choose): npo on tofu, seed 1 (")
    assert pick_record(Wanted("npo", "tofu", 1), tmp_path).note == ""


def test_the_newest_code_is_meant_though_it_failed(tmp_path: Path) -> None:
    old = record(
        "fade",
        scores={"retain_accuracy": 0.9},
        hashes={"code of fade": "aa"},
        provenance={"finished": "2026-01-01T00:00:00Z"},
    )
    new = record(
        "fade",
        scores={"retain_accuracy": 0.9},
        hashes={"code of fade": "bb"},
        provenance={"finished": "2026-01-01T00:00:01Z"},
    )
    new = dataclasses.replace(new, status="failed", reason="no", scores={}, metrics={})
    for each in (old, new):
        files.write_record(each, tmp_path)
    picked = pick_record(Wanted("fade"), tmp_path)
    assert picked.record.status == "failed" and picked.older == {old.name: "fade"}


def test_no_fit_and_no_folder_are_sentences(finished: Place, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fits 'npo' -t tofu --seed 3: `python -m bench ls runs` lists them"):
        pick_record(Wanted("npo", "tofu", 3), finished.out)
    with pytest.raises(UserError, match="There is no folder '.*none'"):
        pick_record(Wanted("msa"), tmp_path / "none")


def test_a_broken_record_is_named_as_broken(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    place.files()["msa"].write_text("{")
    for name in ("msa", str(place.files()["msa"])):
        with pytest.raises(
            UserError, match=r"^\S*msa-\S*\.json is not a readable record \(.+\): delete it and run again\.$"
        ):
            pick_record(Wanted(name), place.out)


COUNTS = {"lcs": 2, "n_ref": 2, "n_hyp": 2}


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"text": " a b", "reference": "a b", "counts": COUNTS}, Answer(" a b", True)),
        ({"text": "a c", "reference": "a b"}, Answer("a c", False)),
        ({"text": "a c"}, Answer("a c", None)),
        ({"counts": COUNTS}, Answer("(2 words, 2 of the reference's 2)", True)),
        ({"counts": COUNTS | {"n_hyp": 3}}, Answer("(3 words, 2 of the reference's 2)", False)),
        (
            {"answer": [{"logp": [log(0.5), log(0.5)], "hit": [1, 0]}]},
            Answer("(1 of 2 tokens foremost, p 0.50 a token)", False),
        ),
        (
            {"answer": [{"hit": [0], "logp": [-2.0]}], "classes": [log(0.2), log(0.8)]},
            Answer("class 1 (p 0.80)", False),
        ),
        ({"loss": 1.0}, None),
        ({"oracle-0": [0.1]}, None),
    ],
)
def test_what_an_answer_is(row: dict[str, Any], answer: Answer | None) -> None:
    assert answer_of(row) == answer
