"""Grades join the responses: beside oracles, of accepted answers, and what a judge must be able to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.core.errors import Absent, UserError
from bench.core.types import Example, Probe, Responses
from bench.engines.measuring.judges import calibrated, check_accepts, judged, labels
from bench.metrics.judged import acc_forget, acc_recover
from bench.metrics.restor import judged as judged_metric
from tests.bench.engines.measuring.test_judges import Server, replies

ROWS = tuple(
    Example(
        f"forget-{i}",
        {"prompt": f"Where is {name}?", "answer": f"{name} is in Oslo", "template": "chat"},
        {"wrong": (f"{name} is in Rome",)},
    )
    for i, name in enumerate(("Ada", "Bob"))
)
PROBE = Probe("forget_judged", "judge", ROWS, options={"judge": "similarity", "said": "forget_said"})


def said(checkpoint: str, *texts: str) -> Responses:
    return Responses(
        checkpoint, {"forget_said": {row.id: {"text": text} for row, text in zip(ROWS, texts, strict=True)}}
    )


def test_what_the_oracles_said_is_an_option() -> None:
    """The target says the truth, the unlearned model what the oracle says: acc_forget 0 and 1, acc_recover 0 and 1."""
    oracle = said("oracle", "Ada is in Lima", "Bob is in Cairo")
    target = judged(said("target", "Ada is in Oslo", "Bob is in Oslo"), [oracle], [PROBE])
    model = judged(said("model", "Ada is in Lima", "Bob is in Cairo"), [oracle], [PROBE])
    (name,) = labels([PROBE])
    for responses, value in ((target, 0.0), (model, 1.0)):
        assert set(responses.rows["forget_judged"]["forget-0"]["grades"]) == {"truth", "oracle-0", "wrong-0"}
        for metric in (acc_forget("f", "forget_judged", name), acc_recover("r", "forget_judged", name)):
            assert metric.compute(responses, [oracle]).value == value
            assert metric.unit == "judge: similarity v1"
    kept = model.publishable()
    assert acc_forget("f", "forget_judged", name).compute(kept, [oracle]).value == 1.0, "no text is needed"


def test_without_an_oracle_nothing_is_judged() -> None:
    assert judged(said("m", "a", "b"), [], [PROBE]).rows["forget_judged"] == {}


def test_the_calibration_judges_the_oracle_against_itself() -> None:
    oracle, target = said("o", "Ada is in Lima", "Bob is in Cairo"), said("t", "Ada is in Oslo", "Bob is in Oslo")
    retain = Probe("retain_judged", "judge", ROWS, options=PROBE.options)
    found = calibrated(target, oracle, [PROBE, retain])
    assert found["scores"]["target"]["acc_forget"]["value"] == 0.0
    assert found["scores"]["oracle"]["acc_forget"]["value"] == 1.0
    assert found["judge"] == "similarity v1" and "GPT" not in found["verdict"]


ASKED = Example(
    "restor-0",
    {"prompt": "Where is Ada? Oslo\nWhere is Bob?", "answer": "Oslo", "template": "plain"},
    {"accepted": ("Oslo", "Norway")},
)


def test_an_accepted_answer_is_given_from_the_judges_own_mark(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two sampled texts, one about the capital of Norway: the share is 1/2; the judge sees the last question alone."""

    def say(body: dict[str, Any]) -> tuple[int, bytes]:
        text = body["messages"][0]["content"]
        return replies(json.dumps({str(i): 80 if "Answer: the capital" in text else 20 for i in (1, 2)}))

    server.say = say
    for name, value in (("MODEL", "small"), ("URL", server.url)):
        monkeypatch.setenv(f"MSA_BENCH_JUDGE_{name}", value)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    probe = Probe("restor_judged", "judge", (ASKED,), options={"judge": "chat", "said": "restor"})
    responses = Responses("m", {"restor": {"restor-0": {"texts": ["the capital of Norway", "Rome"]}}})
    found = judged(responses, [], [probe])
    assert [len(grades) for grades in found.rows["restor_judged"]["restor-0"]["grades"]] == [2, 2]
    assert "Where is Bob?" in server.asked[0]["messages"][0]["content"]
    assert "Where is Ada?" not in server.asked[0]["messages"][0]["content"]
    metric = judged_metric("restor_accuracy_judged", ["restor_judged"], "chat:small v1")
    assert metric.compute(found, []).value == 0.5
    with pytest.raises(Absent, match="judged"):
        metric.compute(Responses("m", {"restor_judged": {}}), [])


def test_a_judge_that_only_compares_accepts_nothing() -> None:
    with pytest.raises(UserError, match="use 'chat'"):
        check_accepts("similarity")
