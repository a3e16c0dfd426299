from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bench.core.errors import Absent
from bench.core.types import Example, Responses
from bench.engines.measuring.judges import judge_rows
from bench.engines.measuring.similarity import Similarity
from bench.metrics import score_all
from bench.metrics.judged import PUBLISHED, acc_forget, acc_recover, acc_retain, describe_calibration
from tests.paths import DATA
from tests.shared_data import needs_data

REAL = DATA / "tofu"
LOGS = REAL / "reference_eval_logs"
here = needs_data("data/tofu/reference_eval_logs")

METRICS = (
    acc_forget("acc_forget", "judged", "similarity v1"),
    acc_recover("acc_recover", "judged", "similarity v1"),
    acc_retain("acc_retain", "judged", "similarity v1"),
)
ORACLE = Responses("h", {})


def graded(truth: float, oracles: list[float], wrong: list[float]) -> dict[str, Any]:
    named = {f"oracle-{i}": grade for i, grade in enumerate(oracles)}
    return {"grades": {"truth": truth, **named, **{f"wrong-{i}": grade for i, grade in enumerate(wrong)}}}


def scores(*rows: dict[str, Any]) -> dict[str, float]:
    model = Responses("m", {"judged": {f"e{i}": row for i, row in enumerate(rows)}})
    scored = score_all(METRICS, model, [ORACLE])
    assert not scored.absent and {score.unit for score in scored.scores.values()} == {"judge: similarity v1"}
    return {name.removeprefix("acc_"): score.value for name, score in scored.scores.items()}


@pytest.mark.parametrize(
    ("row", "forget", "recover", "retain"),
    [
        (graded(0.9, [0.5], [0.1, 0.2]), 0, 0, 1),  # it still knows
        (graded(0.1, [0.9], [0.1, 0.2]), 1, 1, 1),  # it says what the oracle says
        (graded(0.1, [0.5], [0.1, 0.9]), 1, 0, 0),  # it says something false
        (graded(0.9, [0.9], [0.1]), 0, 0, 1),  # a tie of truth and oracle: not forgotten, not recovered, but kept
        (graded(0.1, [0.9], [0.9]), 1, 0, 0),  # a tie of oracle and falsehood
        (graded(0.9, [0.1], [0.9]), 0, 0, 0),  # a tie of truth and falsehood: not forgotten, not kept
        (graded(0.0, [0.0], [0.0]), 0, 0, 0),  # nothing in common with anything
        (graded(0.0, [0.0], []), 0, 0, 0),
        (graded(0.2, [0.1], []), 0, 0, 1),
        (graded(0.5, [0.9, 0.1], [0.2]), 1, 0.5, 1),  # each oracle alone against truth and falsehood
        (graded(0.5, [0.9, 0.8], [0.2]), 1, 1, 1),  # so the oracles do not compete
    ],
)
def test_what_one_row_counts(row: dict[str, Any], forget: float, recover: float, retain: float) -> None:
    assert scores(row) == {"forget": forget, "recover": recover, "retain": retain}


def test_a_score_is_the_share_of_rows() -> None:
    knows, oracle = graded(0.9, [0.5], [0.1]), graded(0.1, [0.9], [0.1])
    assert scores(knows, oracle, oracle, oracle) == {"forget": 0.75, "recover": 0.75, "retain": 1}


def test_each_example_has_its_value() -> None:
    model = Responses("m", {"judged": {"a": graded(0.5, [0.9, 0.1], [0.2]), "b": graded(0.9, [0.5], [0.1])}})
    values = [metric.examples(model, [ORACLE]) for metric in METRICS if metric.examples]
    assert values == [{"a": 1, "b": 0}, {"a": 0.5, "b": 0}, {"a": 1, "b": 1}]


def test_without_an_oracle_there_is_no_score() -> None:
    model = Responses("m", {"judged": {"a": graded(0.5, [], [0.2])}})
    assert set(score_all(METRICS, model, []).absent) == {metric.name for metric in METRICS}
    for metric in METRICS:
        with pytest.raises(Absent, match="no row was judged beside an oracle's answer"):
            metric.compute(model, [ORACLE])


def test_the_calibration_says_whether_the_judge_separates() -> None:
    knows, oracle = graded(0.9, [0.5], [0.1]), graded(0.1, [0.9], [0.1])
    target = {side: {f"e{i}": knows for i in range(20)} for side in ("forget", "retain")}
    ideal = {"forget": {f"e{i}": oracle if i else knows for i in range(20)}, "retain": target["retain"]}
    found = describe_calibration(target, ideal, "coin v3")
    assert found["separates"] and found["scores"]["oracle"]["acc_forget"]["value"] == 0.95
    assert found["verdict"].startswith("coin v3 separates target and oracle (acc_forget 0.00 and 0.95; acc_recover")
    assert found["published"] is PUBLISHED and PUBLISHED["tag"] == "S"
    assert json.loads(json.dumps(found)) == found
    blind = describe_calibration(target, target, "coin v3")
    assert not blind["separates"] and "does NOT separate" in blind["verdict"]
    over = describe_calibration({**ideal}, {**ideal}, "coin v3")  # picks the oracle's answer whoever speaks
    assert not over["separates"]


@here
def test_similarity_is_calibrated_on_a_real_target_and_oracle() -> None:
    """Generations of Llama-2-7B from TOFU's authors: fine-tuned on all 200 authors, and on retain90 alone."""
    rows, said = {}, {}
    files = {"forget": ("forget10_perturbed", "eval_log_forget"), "retain": ("retain_perturbed", "eval_log")}
    for side, (file, log) in files.items():
        lines = (REAL / f"{file}.json").read_text().splitlines()[:300]  # their logs stop there
        rows[side] = [row_of(i, json.loads(line)) for i, line in enumerate(lines)]
        for model in ("full", "retain90"):
            logged = json.loads((LOGS / f"llama2-7b_{model}_wd0.01_eval_log_aggregated.json").read_text())
            texts = logged[f"{log}.json"]["generated_text"]
            assert rows[side][0].payload["prompt"] in texts["0"][0]
            said[model, side] = Responses(model, {"said": {key: {"text": row[1]} for key, row in texts.items()}})
    judged = {
        model: {
            side: judge_rows(
                replace(said[model, side], checkpoint=""), [said["retain90", side]], Similarity(), asked, "said"
            )
            for side, asked in rows.items()
        }
        for model in ("full", "retain90")
    }
    found = describe_calibration(judged["full"], judged["retain90"], "similarity v1")
    assert found["separates"], found["verdict"]
    target, oracle = (
        {name: score["value"] for name, score in found["scores"][row].items()} for row in ("target", "oracle")
    )
    # Measured 0.017, 0.013, 1.000 and 0.993, 0.993, 1.000; the paper's judge on its models 0.15, 0.13, 0.89 and 0.93, 0.98, 1.
    assert target["acc_forget"] < 0.05 and target["acc_recover"] < 0.05 and target["acc_retain"] > 0.98
    assert oracle["acc_forget"] > 0.95 and oracle["acc_recover"] > 0.95 and oracle["acc_retain"] > 0.98


def row_of(i: int, row: dict[str, Any]) -> Example:
    payload = {"prompt": row["question"], "answer": row["answer"]}
    return Example(str(i), payload, {"wrong": tuple(row["perturbed_answer"])})
