"""RESTOR's scores, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bench.core.errors import Absent
from bench.core.types import Responses
from bench.metrics.answers import match
from bench.metrics.restor import matched


def row(*exact: int, **others: tuple[int, ...]) -> dict[str, Any]:
    """A generate row with one match for each sampled text."""
    columns = {"exact": exact, **others}
    return {"matches": [{key: values[i] for key, values in columns.items()} for i in range(len(exact))]}


ROWS = {
    "restor_corrupted": {
        "restor-4": row(1, 0, 0, wrong=(0, 1, 1)),
        "restor-2": row(1, 1, 0, wrong=(0, 0, 0)),
    },
    "restor_clean": {"restor-10": row(1, 1, 1), "restor-3": row(0, 0, 0)},
}
RESPONSES = Responses("m", ROWS)


def test_the_mean_over_questions_of_the_mean_over_texts() -> None:
    """(1/3 + 2/3) / 2 = 1/2 of the corrupted; (1 + 0) / 2 of the clean; (1/3 + 2/3 + 1 + 0) / 4 of all."""
    for probes, value, n in (
        (["restor_corrupted"], 0.5, 2),
        (["restor_clean"], 0.5, 2),
        (["restor_corrupted", "restor_clean"], 0.5, 4),
    ):
        score = matched("restor_accuracy", probes, "exact", goal="up").compute(RESPONSES, ())
        assert (score.value, score.n) == (pytest.approx(value), n)
        assert score.low is not None and score.high is not None and score.low < score.value < score.high
    uneven = Responses("m", {"all": {"a": row(1), "b": row(0, 0, 0, 1)}})  # (1 + 1/4) / 2, not 2/5
    assert matched("x", ["all"], "exact", goal="up").compute(uneven, ()).value == 0.625


def test_questions_without_a_corrupted_value_count_for_nothing() -> None:
    """Only two of the four were judged so: (2/3 + 0) / 2."""
    metric = matched("restor_wrong", ["restor_corrupted", "restor_clean"], "wrong", goal="oracle")
    score = metric.compute(RESPONSES, ())
    assert (score.value, score.n) == (pytest.approx(1 / 3), 2)
    with pytest.raises(Absent, match="no answer to 'restor_clean' was judged 'wrong'"):
        matched("restor_wrong", ["restor_clean"], "wrong", goal="oracle").compute(RESPONSES, ())
    with pytest.raises(Absent, match="'restor_other' was not asked"):
        matched("x", ["restor_other"], "exact", goal="up").compute(RESPONSES, ())


def test_the_values_of_the_examples() -> None:
    metric = matched("restor_accuracy", ["restor_corrupted", "restor_clean"], "exact", goal="up")
    assert metric.examples is not None and metric.goal == "up"
    assert metric.examples(RESPONSES, ()) == {
        "restor-4": pytest.approx(1 / 3),
        "restor-2": pytest.approx(2 / 3),
        "restor-10": 1,
        "restor-3": 0,
    }


def test_it_reads_what_the_judge_writes() -> None:
    said = {"matches": [match(text, ("Thailand",), ("Laos",)) for text in ("Thailand", "in Laos", "Laos", "Peru")]}
    responses = Responses("m", {"p": {"restor-0": said}})
    for judgement, value in (("exact", 0.25), ("lenient", 0.25), ("wrong", 0.25), ("wrong_lenient", 0.5)):
        assert matched("x", ["p"], judgement, goal="up").compute(responses, ()).value == value
