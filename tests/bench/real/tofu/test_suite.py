"""TOFU's suite: what is asked, and that its composed scores are made of the right parts in the right form."""

from __future__ import annotations

from math import fsum
from pathlib import Path
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer

from bench.conformance import invent_responses
from bench.core.types import Responses
from bench.metrics import score_all
from bench.metrics.rouge import count_overlap
from bench.real.tofu.suite import suite_metrics, tofu_suite
from tests.bench.real.test_evaluate import ROWS, write_data


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tofu_suite(str(write_data(tmp_path_factory.mktemp("tofu") / "data"))).probes


@pytest.fixture(scope="module")
def scored(probes: Any) -> dict[str, Any]:
    """Scores and examples of drawn responses, in which nothing is zero."""
    responses = Responses("m", invent_responses(probes, "m", ["oracle"]))
    found = score_all(suite_metrics(), responses, [Responses("oracle", invent_responses(probes, "oracle", ["m"]))])
    examples = {m.name: m.examples(responses, []) for m in suite_metrics() if m.examples and not m.needs_oracle}
    return {"scores": {name: score.value for name, score in found.scores.items()}, "examples": examples}


def test_answers_may_have_200_tokens(probes: Any) -> None:
    assert {p.max_new_tokens for p in probes if p.kind == "generate"} == {200}
    assert {p.name for p in probes if p.kind == "generate"} == {f"{s}_said" for s in ("forget", "retain", "ra", "wf")}
    assert all(len(p.examples) == ROWS for p in probes)


def test_model_utility_is_made_of_its_nine_parts(scored: dict[str, Any]) -> None:
    """Probability (normalised for real authors and world facts), ROUGE and truth ratio of retain, ra and wf."""
    parts = ["retain_Q_A_Prob", "ra_Q_A_Prob_normalised", "wf_Q_A_Prob_normalised"]
    parts += [f"{side}_{what}" for side in ("retain", "ra", "wf") for what in ("Q_A_ROUGE", "Truth_Ratio")]
    values = [scored["scores"][name] for name in parts]
    assert len(set(values)) == 9 and min(values) > 0
    assert scored["scores"]["model_utility"] == pytest.approx(9 / fsum(1 / value for value in values))


def test_truth_ratios_have_their_forms(scored: dict[str, Any]) -> None:
    """Forget: the mean of min(r, 1/r); the three others: the mean of max(0, 1 - r)."""
    for name in ("forget_truth_ratio", "retain_Truth_Ratio", "ra_Truth_Ratio", "wf_Truth_Ratio"):
        ratios = list(scored["examples"][name].values())
        shapes = [min(r, 1 / r) if name.startswith("forget") else max(0.0, 1 - r) for r in ratios]
        assert scored["scores"][name] == pytest.approx(fsum(shapes) / len(shapes))


def test_rouge_is_recall_with_a_stemmer() -> None:
    reference, said = "The hounds were running home over the moor", "A hound runs over moors, and over moors again"
    row = {"counts": count_overlap(said, reference)}
    expected = RougeScorer(["rougeL"], use_stemmer=True).score(reference, said)["rougeL"]
    others = RougeScorer(["rougeL"], use_stemmer=False).score(reference, said)["rougeL"]
    assert len({expected.recall, expected.fmeasure, others.recall}) == 3, "the case tells them apart"
    for side in ("forget", "retain", "ra", "wf"):
        metric = next(m for m in suite_metrics() if m.name == f"{side}_Q_A_ROUGE")
        found = metric.compute(Responses("m", {f"{side}_said": {"a": row}}), [])
        assert found.value == pytest.approx(expected.recall)


def test_a_split_reads_its_own_configurations(tmp_path: Path) -> None:
    from bench.real.tofu.suite import configs_of_split

    assert (
        configs_of_split("forget05")["forget"] == "forget05_perturbed"
        and configs_of_split("forget05")["holdout"] == "holdout05"
    )
