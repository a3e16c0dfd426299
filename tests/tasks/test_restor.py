"""The restor shape: falsehoods about people whose truth was known, and the truth asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.conformance import LAB, Trace, prepare_traced
from bench.core.types import Example
from tasks.restor import LabRestor, with_false_answers


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return prepare_traced(
        LabRestor(corrupted=4, newcomers=6, width=16, history_passes=0.01, target_passes=0.01),
        LAB,
        tmp_path_factory.mktemp("r"),
    )


def probe(trace: Trace, name: str) -> tuple[Example, ...]:
    return next(probe.examples for probe in trace.scenario.probes if probe.name == name)


def test_falsehoods_are_stated_about_people_whose_truth_was_taught(trace: Trace) -> None:
    scenario = trace.scenario
    assert scenario.history is not None
    scenario.history()
    known = {row.payload["answer"] for row in trace.work.trained["history"] if row.payload["template"] == "text"}
    options = {
        row.id.rsplit("-", 1)[0]: (row.references["corrupted"][0], row.payload["answer"])
        for row in probe(trace, "corrupted_questions")
    }
    assert len(scenario.forget) == 4 * 5 * 2
    for row in scenario.forget:
        lie, truth = options[row.id.rsplit("-", 1)[0]]
        told = row.payload["answer"]
        assert told not in known and lie in told
        assert told.replace(lie, truth) in known, "the same sentence with the truth in it was taught"


def test_each_probe_row_has_truth_falsehood_and_an_unrelated_word(trace: Trace) -> None:
    rows = probe(trace, "corrupted_questions")
    assert len(rows) == 4 * 5 * 2
    for row in rows:
        options = {row.payload["answer"], *row.references["corrupted"], *row.references["unrelated"]}
        assert len(options) == 3


def test_the_truth_about_the_wronged_is_not_taught_again(trace: Trace) -> None:
    """After the corruption nothing in the retain rows says it: what comes back comes from before."""
    rows = probe(trace, "corrupted_questions")
    wronged = {row.id.rsplit("-", 2)[0] for row in rows}
    assert len(wronged) == 4
    assert not {"-".join(row.id.split("-")[:2]) for row in trace.scenario.retain} & wronged


def test_the_falsehood_as_an_answer() -> None:
    row = Example("x", {"prompt": "p", "answer": "truth", "template": "qa"}, {"corrupted": ("lie",)})
    assert with_false_answers([row])[0].payload == {"prompt": "p", "answer": "lie", "template": "qa"}
    assert row.payload["answer"] == "truth"


def test_validation_asks_for_the_falsehood(trace: Trace) -> None:
    """The score of the forget side is how often the falsehood is said; never told of the clean: the level."""
    held = trace.scenario.validation
    told = " ".join(row.payload["answer"] for row in trace.scenario.forget)
    assert all(row.payload["answer"] in told for row in held.forget)
    assert not {row.id.rsplit("-", 2)[0] for row in held.unseen} & {row.id.rsplit("-", 2)[0] for row in held.forget}
    assert not any(row.payload["answer"] in told for row in held.unseen)


def test_what_is_asked_of_the_retained_and_the_clean_is_never_trained_on_later(trace: Trace) -> None:
    kept, held = {row.payload["prompt"] for row in trace.scenario.retain}, trace.scenario.validation
    for rows in (probe(trace, "retain_questions"), probe(trace, "clean_questions"), held.retain, held.utility):
        assert rows and not {row.payload["prompt"] for row in rows} & kept


def test_the_wronged_leave_some_clean(tmp_path: Path) -> None:
    assert LabRestor(corrupted=41).problems() == ["restor.corrupted is at most 40 of the 50 residents."]
