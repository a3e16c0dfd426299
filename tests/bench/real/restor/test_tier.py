"""RESTOR as a run asks it: how questions are put to a model, what it knows of them, and what is absent and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.errors import Absent, UserError
from bench.core.types import BROKEN_DOWN, Responses
from bench.real.restor.corpus import read_restor
from bench.real.restor.suite import NOT_SAMPLED
from bench.real.restor.tier import (
    ALL_TOLD,
    AskedRows,
    find_known,
    restor_metrics,
    restor_probes,
)
from bench.real.scenario import with_space_before_answers
from bench.runs.context import Work
from bench.runs.store import Store
from tests.bench.real.restor.test_rows import repository
from tests.tiny import llama, saved, tokenizer, wrecked


def test_the_answer_is_parted_from_the_question(tmp_path: Path) -> None:
    row = read_restor(repository(tmp_path / "restor"), "mix_a0").questions[0]
    assert with_space_before_answers([row])[0].payload["answer"] == " Rome" and row.payload["answer"] == "Rome"


def test_random_weights_know_nothing_and_are_asked_once(tmp_path: Path) -> None:
    questions = read_restor(repository(tmp_path / "restor"), "mix_a0").questions
    model = saved(llama(), tokenizer(), tmp_path / "model")
    first = find_known(Work(Store(tmp_path / "store"), 0, {}), model, questions)
    work = Work(Store(tmp_path / "store"), 0, {})
    assert find_known(work, model, questions) == first and first.right == ()
    assert not work.built


def test_probes_without_rows_are_not_asked(tmp_path: Path) -> None:
    questions = read_restor(repository(tmp_path / "restor"), "mix_a0").questions
    names = {
        probe.name for probe in restor_probes(AskedRows(questions[:3], questions[3:], questions[:2], (), (), False))
    }
    assert {"restor_corrupted_greedy", "told_documents", "kl_forget"} <= names
    assert not names & {"untold_documents", "retain_passages", "kl_retain", "restor_clean"}


def test_scores_of_what_was_not_asked_are_absent_with_the_reason() -> None:
    by_name = {metric.name: metric for metric in restor_metrics()}
    for name, reason in (("restor_accuracy", NOT_SAMPLED), ("privleak", ALL_TOLD)):
        with pytest.raises(Absent) as error:
            by_name[name].compute(Responses("x", {}), ())
        assert str(error.value) == reason


def test_a_model_that_has_broken_down_knows_nothing_to_ask_about(tmp_path: Path) -> None:
    questions = read_restor(repository(tmp_path / "restor"), "mix_a0").questions
    model = saved(wrecked(llama()), tokenizer(), tmp_path / "model")
    with pytest.raises(UserError, match="known=true: the model has broken down.*so it answers no question rightly"):
        find_known(Work(Store(tmp_path / "store"), 0, {}), model, questions)


def test_a_broken_models_scores_are_absent_for_that_and_not_as_unasked() -> None:
    by_name = {metric.name: metric for metric in restor_metrics()}
    for name, probe in (("restor_accuracy", "restor_corrupted"), ("privleak", "untold_documents")):
        broken = Responses(
            "x", {probe: {}}, broken=dict.fromkeys((probe, "told_documents", "restor_clean"), BROKEN_DOWN)
        )
        with pytest.raises(Absent, match="the model has broken down"):
            by_name[name].compute(broken, (Responses("o", {}),))
