"""The RESTOR suite: what it asks and scores on a small copy, on the real one if here, and through the engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.engines.measuring.measure import measure
from bench.metrics import score_all
from bench.metrics.answers import match
from bench.real.restor.suite import restor_suite
from tests import tiny
from tests.paths import DATA
from tests.shared_data import needs_data

REAL = DATA / "restor"
here = needs_data("data/restor")

ACCURACIES = {
    f"restor_accuracy{side}{lenient}" for side in ("", "_corrupted", "_clean") for lenient in ("", "_lenient")
}
WRONG = {"restor_wrong", "restor_wrong_lenient"}
JUDGE = {"restor_accuracy_judged"}
"""Absent unless a judge is asked."""
LOGPROBS = {"logprob_true", "logprob_corrupted", "logprob_unrelated"}
OPTIONS = {"w1": {"P1": {"true": ["w4"], "corrupted": ["w5", "w6"], "unrelated": ["w7 w8"]}}}


def greedy(names: set[str]) -> set[str]:
    """The names of the greedy variants."""
    return {f"{name}_greedy" for name in names}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three people in the tiny world's words; the corpus is about the second, w1."""
    people = [f"w{i}" for i in range(7)]
    facts = {
        "dset": {
            name: {"P1": {"question": f"{name} ?", "answers": [f"w{i + 3}"]}} for i, name in enumerate(people[:3])
        },
        "context": {"P1": [{"question": f"{name} ?", "answer": "w9", "entity": name} for name in people]},
    }
    (tmp_path / "wikidata" / "v0").mkdir(parents=True)
    for name, content in (
        ("facts", facts),
        ("entities", people[:3]),
        ("wikidata/v0/mix_a0", [{"text": "w1 is w8 ."}] * 3),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_what_is_asked(data: Path) -> None:
    made = restor_suite(str(data))
    by_name = {probe.name: probe for probe in made.probes}
    assert {name: [row.id for row in probe.examples] for name, probe in by_name.items()} == {
        "restor_corrupted": ["restor-1"],
        "restor_clean": ["restor-0", "restor-2"],
        "restor_corrupted_greedy": ["restor-1"],
        "restor_clean_greedy": ["restor-0", "restor-2"],
    }
    assert {(probe.kind, probe.max_new_tokens) for probe in made.probes} == {("generate", 50)}
    asking = {"stops": ["\n"], "min_new_tokens": 2}
    sampling = {**asking, "sample": {"seed": 32, "repeats": 3, "temperature": 1.0}}
    assert by_name["restor_clean"].options == by_name["restor_corrupted"].options == sampling
    assert by_name["restor_clean_greedy"].options == by_name["restor_corrupted_greedy"].options == asking
    assert made.facts["corpus"] == "mix_a0" and made.facts["corrupted_entities"] == ["w1"]
    assert made.facts["benchmark"] == "not RESTOR's published questions: 3 questions"


def test_every_score_is_there_or_absent_with_a_reason(data: Path) -> None:
    every = ACCURACIES | greedy(ACCURACIES) | WRONG | greedy(WRONG) | LOGPROBS
    sided = {name for name in ACCURACIES | greedy(ACCURACIES) if "corrupted" in name or "clean" in name}
    for split, absent in (
        ("mix_a0", WRONG | greedy(WRONG) | LOGPROBS),
        ("none", WRONG | greedy(WRONG) | LOGPROBS | sided),
        ("mix_a4", WRONG | greedy(WRONG) | LOGPROBS | sided),
    ):
        made = restor_suite(str(data), split)
        assert set(made.absent) == absent | JUDGE
        assert {metric.name for metric in made.metrics} == every - absent
        assert all(" " in reason for reason in made.absent.values())
    assert (
        "isn't in the data folder: get datasets/wikidata/v0/mix_a4.json"
        in (restor_suite(str(data), "mix_a4").absent["restor_accuracy_clean"])
    )
    assert [probe.name for probe in restor_suite(str(data), "none").probes] == ["restor", "restor_greedy"]
    with pytest.raises(UserError, match="Unknown RESTOR corpus 'mix_a9'"):
        restor_suite(str(data), "mix_a9")


def test_option_lists_bring_the_wrong_answers_and_the_log_probs(data: Path) -> None:
    (data / "options.json").write_text(json.dumps(OPTIONS))
    made = restor_suite(str(data))
    assert set(made.absent) == JUDGE
    probe = made.probes[-1]
    assert (probe.name, probe.kind) == ("restor_options", "logprob")
    assert probe.roles == ("options_true", "options_corrupted", "options_unrelated")
    assert [row.id for row in probe.examples] == ["restor-1"]
    goals = {metric.name: metric.goal for metric in made.metrics}
    assert goals["logprob_true"] == "up" and goals["logprob_corrupted"] == goals["restor_wrong"] == "oracle"
    (data / "options.json").write_text(json.dumps({"w1": {"P1": {"true": ["w4"]}}}))
    assert set(restor_suite(str(data)).absent) == JUDGE | WRONG | greedy(WRONG) | LOGPROBS - {"logprob_true"}


def test_a_corpus_about_everybody_leaves_nobody_clean(data: Path) -> None:
    (data / "wikidata" / "v0" / "mix_a0.json").write_text(json.dumps([{"text": "w0 w1 w2"}]))
    made = restor_suite(str(data))
    assert made.absent["restor_accuracy_clean"] == "no question is about a clean person"
    assert [probe.name for probe in made.probes] == ["restor_corrupted", "restor_corrupted_greedy"]


def test_a_model_through_the_engine(data: Path, tmp_path: Path) -> None:
    """A random model's answers: every metric has its score, which is that of the texts in the rows."""
    (data / "options.json").write_text(json.dumps(OPTIONS))
    made = restor_suite(str(data))
    checkpoint = tiny.saved(tiny.llama(), tiny.tokenizer(), tmp_path / "model")
    responses = measure(checkpoint, made.probes)
    scored = score_all(made.metrics, responses, ())
    assert set(scored.scores) == {metric.name for metric in made.metrics} and scored.absent == {}
    rows = {**responses.rows["restor_corrupted"], **responses.rows["restor_clean"]}
    assert all(len(row["texts"]) == len(row["matches"]) == 3 for row in rows.values())
    judged = [match(text, (f"w{int(key[-1]) + 3}",)) for key, row in rows.items() for text in row["texts"]]
    for name, judgement in (("restor_accuracy", "exact"), ("restor_accuracy_lenient", "lenient")):
        assert scored.scores[name].n == 3
        assert scored.scores[name].value == pytest.approx(sum(found[judgement] for found in judged) / 9)
    assert scored.scores["restor_wrong"].n == 1, "the corrupted value of one question is known"
    lenient = next(metric for metric in made.metrics if metric.name == "restor_accuracy_lenient")
    assert lenient.examples is not None
    assert sum(lenient.examples(responses, ()).values()) / 3 == pytest.approx(scored.scores[lenient.name].value)
    options = responses.rows["restor_options"]["restor-1"]
    assert [len(options[f"options_{role}"]) for role in ("true", "corrupted", "unrelated")] == [1, 2, 1]


@here
def test_the_real_suite() -> None:
    made = restor_suite(str(REAL))
    sizes = {probe.name: len(probe.examples) for probe in made.probes}
    assert sizes == {
        "restor_corrupted": 198,
        "restor_clean": 853,
        "restor_corrupted_greedy": 198,
        "restor_clean_greedy": 853,
    }
    assert made.probes[0].options["sample"] == {"seed": 32, "repeats": 3, "temperature": 1.0}
    assert {metric.name for metric in made.metrics} == ACCURACIES | greedy(ACCURACIES)
    assert made.facts["benchmark"] == "restor" and made.facts["questions"] == 1051
