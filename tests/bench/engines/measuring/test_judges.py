"""Judges by name, and grades that join the responses: beside oracles, of accepted answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.contracts import Judge
from bench.core.errors import Absent, UserError
from bench.core.types import BROKEN_DOWN, OTHER_BROKEN, Example, Probe, Responses
from bench.engines.measuring.chat_judge import ChatJudge
from bench.engines.measuring.judges import (
    add_grades,
    calibrate_judge,
    check_accepts,
    judge_label,
    judge_labels,
    judge_rows,
    load_judge,
)
from bench.engines.measuring.similarity import Similarity
from bench.metrics.judged import acc_forget, acc_recover
from bench.metrics.restor import judge_accepts as judged_metric
from tests.bench.engines.measuring.test_chat_judge import Server, replies, server
from tests.bench.engines.measuring.test_similarity import QUESTION

__all__ = ["server"]


def example(key: str = "a", wrong: tuple[str, ...] = ("in Oslo", "in Cairo")) -> Example:
    return Example(key, {"prompt": QUESTION, "answer": "in Lisbon"}, {"wrong": wrong})


def spoke(checkpoint: str, **texts: str) -> Responses:
    return Responses(checkpoint, {"said": {key: {"text": text, "prompt": ""} for key, text in texts.items()}})


def test_rows_have_a_number_for_each_option_and_no_text() -> None:
    oracles = [spoke("h0", a="in Rome"), spoke("h1", a="in Paris")]
    rows = judge_rows(spoke("m", a="in Rome"), oracles, Similarity(), [example()], "said")
    assert rows == {"a": {"grades": {"truth": 0, "oracle-0": 1, "oracle-1": 0, "wrong-0": 0, "wrong-1": 0}}}
    assert Responses("m", {"judged": rows}).publishable().rows == {"judged": rows}


def test_an_oracle_is_judged_beside_the_others_only() -> None:
    oracles = [spoke("h0", a="in Rome"), spoke("h1", a="in Paris")]
    rows = judge_rows(oracles[0], oracles, Similarity(), [example()], "said")
    assert list(rows["a"]["grades"]) == ["truth", "oracle-0", "wrong-0", "wrong-1"]
    assert rows["a"]["grades"]["oracle-0"] == 0.5  # h1's Paris: of h0's two words only "in" is there
    itself = judge_rows(replace(oracles[0], checkpoint=""), oracles[:1], Similarity(), [example()], "said")
    assert itself["a"]["grades"]["oracle-0"] == 1


def test_examples_without_a_generation_have_no_row() -> None:
    sampled = Responses("m", {"said": {"a": {"texts": ["x"]}, "b": {"text": "in Rome"}}})
    asked = [example("a"), example("b"), example("c")]
    assert list(judge_rows(sampled, [], Similarity(), asked, "said")) == ["b"]
    assert judge_rows(sampled, [], Similarity(), asked, "never asked") == {}


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
    target = add_grades(said("target", "Ada is in Oslo", "Bob is in Oslo"), [oracle], [PROBE])
    model = add_grades(said("model", "Ada is in Lima", "Bob is in Cairo"), [oracle], [PROBE])
    (name,) = judge_labels([PROBE])
    for responses, value in ((target, 0.0), (model, 1.0)):
        assert set(responses.rows["forget_judged"]["forget-0"]["grades"]) == {"truth", "oracle-0", "wrong-0"}
        for metric in (acc_forget("f", "forget_judged", name), acc_recover("r", "forget_judged", name)):
            assert metric.compute(responses, [oracle]).value == value
            assert metric.unit == "judge: similarity v1"
    kept = model.publishable()
    assert acc_forget("f", "forget_judged", name).compute(kept, [oracle]).value == 1.0, "no text is needed"


def test_without_an_oracle_nothing_is_judged() -> None:
    assert add_grades(said("m", "a", "b"), [], [PROBE]).rows["forget_judged"] == {}


def test_the_calibration_judges_the_oracle_against_itself() -> None:
    oracle, target = said("o", "Ada is in Lima", "Bob is in Cairo"), said("t", "Ada is in Oslo", "Bob is in Oslo")
    retain = Probe("retain_judged", "judge", ROWS, options=PROBE.options)
    found = calibrate_judge(target, oracle, [PROBE, retain])
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
    found = add_grades(responses, [], [probe])
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


def test_judges_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MSA_BENCH_JUDGE_MODEL", "MSA_BENCH_JUDGE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert judge_label(load_judge("similarity")) == "similarity v1"
    with pytest.raises(UserError, match="Unknown judge 'similarty'. Did you mean 'similarity'"):
        load_judge("similarty")
    with pytest.raises(UserError, match="set MSA_BENCH_JUDGE_MODEL"):
        load_judge("chat")
    monkeypatch.setenv("MSA_BENCH_JUDGE_MODEL", "large")
    with pytest.raises(UserError, match="set OPENAI_API_KEY"):
        load_judge("chat")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert load_judge("chat") == ChatJudge("large", "https://api.openai.com/v1", "k")
    monkeypatch.setenv("MSA_BENCH_JUDGE_URL", "file:///etc/passwd")
    with pytest.raises(UserError, match="must begin with https"):
        load_judge("chat")


def test_a_plug_in_is_a_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "coin_judge.py").write_text(
        "from bench.api import Judge\n"
        "class Coin(Judge):\n"
        "    name, version = 'coin', 3\n"
        "    def grade(self, question, answer, options):\n"
        "        return {option: float(len(text)) for option, text in options.items()}\n"
        "class Sure(Coin):\n"
        "    accepts = 0.5\n"
        "class Alone:\n"
        "    grade = Coin.grade\n"
    )
    info = tmp_path / "coin_judge-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: coin-judge\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[msa_bench.judges]\ncoin = coin_judge:Coin\nlost = coin_judge:Nothing\nsimilarity = coin_judge:Coin\n"
        "sure = coin_judge:Sure\nalone = coin_judge:Alone\ncut = cut_judge:Cut\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    coin: Judge = load_judge("coin")
    rows = judge_rows(spoke("m", a="x"), [], coin, [example()], "said")
    assert judge_label(coin) == "coin v3" and rows["a"]["grades"]["truth"] == len("in Lisbon")
    assert load_judge("similarity") == Similarity()
    with pytest.raises(UserError, match="The plug-in for the judge 'lost' can't be loaded"):
        load_judge("lost")
    (tmp_path / "cut_judge.py").write_text("x = (")
    with pytest.raises(UserError, match="judge 'cut' can't be loaded: SyntaxError"):
        load_judge("cut")
    with pytest.raises(UserError, match="judge 'alone' can't be loaded: derive it from bench.api.Judge"):
        load_judge("alone")
    check_accepts("sure")
    with pytest.raises(UserError, match="The judge 'coin' only compares answers"):
        check_accepts("coin")


def test_what_a_broken_model_said_is_not_judged() -> None:
    probe = Probe("forget_judged", "judge", (example(),), options={"judge": "similarity", "said": "said"})
    wreck = Responses("w", {"said": {}}, broken={"said": BROKEN_DOWN})
    ours, theirs = spoke("m", a="in Rome"), spoke("h0", a="in Rome")
    assert add_grades(wreck, [theirs], [probe]).broken["forget_judged"] == BROKEN_DOWN
    beside = add_grades(ours, [wreck], [probe])
    assert beside.broken == {"forget_judged": OTHER_BROKEN.format("the oracle")} and not beside.wrecked
    with pytest.raises(Absent, match="the oracle has broken down"):
        acc_forget("x", "forget_judged", "j").compute(beside, [wreck])
    assert add_grades(ours, [theirs], [probe]).broken == {}
    said = calibrate_judge(ours, wreck, [probe])
    assert list(said) == ["verdict"] and "the oracle has broken down" in said["verdict"]
