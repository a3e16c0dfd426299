"""`bench compare`: scores side by side, answers that differ, and what can't be compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cli.compare import compare_json, compare_records, count_answers, is_different
from bench.cli.picking import Wanted
from bench.core.errors import UserError
from bench.core.record import Record
from bench.core.types import Responses
from bench.records import files
from bench.records.markdown import format_number
from tests.factories import lineage, record
from tests.processes import Place
from tests.shell import Shell


def said(name: str, *texts: str) -> Responses:
    rows = {f"q{i}": {"text": text, "reference": "right", "prompt": "?"} for i, text in enumerate(texts)}
    return Responses(name, {"asked": rows})


def test_answers_are_counted_and_told_apart_by_their_words() -> None:
    """Of three, the first is right in both, the second in one, the third wrong in both in other words."""
    of = {"msa": said("m", "right", "right", "a"), "npo": said("n", "right", "x", "b")}
    different = [key for key in ("q0", "q1", "q2") if is_different("asked", key, of)]
    assert different == ["q1", "q2"]
    told = count_answers("asked", ["q0", "q1", "q2"], of, different)
    assert told == "3 asked; answered with the truth: msa 2, npo 1; 2 answered differently"
    numbers = {name: responses.publishable() for name, responses in of.items()}
    assert not is_different("asked", "q2", numbers), "without words nobody can tell"


def test_scores_and_answers_stand_side_by_side(finished: Place) -> None:
    records = {name: Record.from_json(data) for name, data in finished.records().items()}
    text = compare_records([Wanted("msa"), Wanted("target")], finished.out, finished.store, 1, False, True)
    lines = text.splitlines()
    assert lines[0] == "muse-books (lab), seed 0, model lab" and lines[1] == f"msa: {records['msa'].name}"
    for name in records["msa"].scores:
        [line] = [line for line in lines if line.split()[:1] == [name]]
        assert format_number(records["msa"].scores[name].value) in line.split()
    headline = compare_records([Wanted("msa"), Wanted("target")], finished.out, finished.store, 1, False, False)
    assert len(headline) < len(text) and " asked; answered with the truth: msa " in headline
    data = compare_json([Wanted("msa"), Wanted("target")], finished.out, finished.store, 100, True)
    assert json.dumps(data) and all(one["different"] for rows in data["answers"].values() for one in rows.values())


def test_what_cant_be_compared_is_a_sentence(tmp_path: Path) -> None:
    made = [record("msa", 0), record("npo", 1), record("ga", 0, status="failed", reason="no", scores={})]
    elsewhere = record("graddiff", 0, lineage=lineage("graddiff", 7, "tofu"))
    for each in (*made, elsewhere):
        files.write_record(each, tmp_path)
    for names, sentence in (
        (["msa"], "compare takes two methods or records at least"),
        (["msa", "msa"], "'msa' and 'msa' mean the same record"),
        (["msa", "ga"], "is failed: `python -m bench show "),
        (["msa", "npo"], "No record in .* fits 'npo' -t tofu --seed 0"),
        (["msa", "graddiff"], "start from different targets, so that nothing can be compared"),
    ):
        with pytest.raises(UserError, match=sentence):
            compare_records([Wanted(name) for name in names], tmp_path, tmp_path / "store", 1, False, False)


def test_without_responses_the_scores_are_told(tmp_path: Path, shell: Shell) -> None:
    for method in ("msa", "npo"):
        files.write_record(record(method, 0), shell.folder / "runs")
    done = shell("compare", "msa", "npo", "--task", "tofu", "--seed", "0", "--changed", "--store", "store")
    assert done.code == 0 and "retain_accuracy" in done.out and "are no longer in the store" in done.out
