"""The speed benchmark: both sides say the same, ours computes less, and the file has its fields. No seconds are asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.core.types import Example, Json, Probe
from tests.speed import measuring as speed
from tests.tiny import tokenizer

pytestmark = pytest.mark.slow

ROWS = 5
"""Enough for questions that share their solved ones to be generated together."""


@pytest.fixture(scope="module")
def result() -> Json:
    return speed.run(speed.Options(rows=ROWS, width=16, steps=4))


@pytest.mark.parametrize("suite", speed.SUITES)
@pytest.mark.parametrize("kind", speed.KINDS)
def test_both_sides_agree_and_ours_computes_no_less_than_the_floor(result: Json, suite: str, kind: str) -> None:
    line = result["suites"][suite][kind]
    assert line["agreement"]["agrees"], line["agreement"]
    assert line["agreement"]["values"] + line["agreement"]["choices"] > 0
    assert line["distinct"] <= line["ours"]["positions"]
    if kind != "gradient norms":  # a batch is padded, and its first and last text are tried alone
        assert line["ours"]["positions"] <= line["plain"]["positions"]
    assert line["ours"]["row_steps"] <= line["plain"]["row_steps"]
    if kind != "gradient norms":
        assert line["ours"]["positions"] < line["plain"]["positions"]


def test_plain_passes_are_the_metrics_of_the_field(result: Json) -> None:
    """Of a row: three answers on two sides, two on two others; five attacks on both sides, one of them on two models."""
    agreement = {suite: result["suites"][suite]["log-probs"]["agreement"] for suite in speed.SUITES}
    assert agreement["tofu"]["values"] == ROWS * (2 * 3 + 2 * 2 + 6 * 2)
    assert agreement["muse-books"]["values"] == ROWS * 6 * 2
    assert {of_suite["choices"] for of_suite in agreement.values()} == {ROWS * 2}
    assert result["suites"]["tofu"]["generation"]["agreement"]["choices"] == ROWS * 4
    assert result["suites"]["muse-books"]["generation"]["agreement"]["choices"] == ROWS * 3


def test_the_file_and_the_table_have_their_fields(
    result: Json, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(options: speed.Options) -> Json:
        assert options == speed.Options("", ROWS, 16, ("tofu",))
        return result

    monkeypatch.setattr(speed, "run", answer)
    out = tmp_path / "speed.json"
    assert speed.main(["--data", "", "--rows", str(ROWS), "--width", "16", "--suite", "tofu", "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert written.keys() == {"suites", "goals", "agrees", "data", "rows", "threads", "model"}
    assert written["data"] == "generated" and written["rows"] == ROWS
    line = written["suites"]["tofu"]["both"]
    assert line.keys() == {"ours", "plain", "distinct", "above_distinct", "ratio", "agreement"}
    assert line["ours"].keys() == {"cpu_seconds", "positions", "row_steps", "peak_bytes", "grown_bytes"}
    shown = capsys.readouterr().out
    assert (
        "muse-books" in shown and "goal: muse-books, both in at most 0.15" in shown and "The two sides agree." in shown
    )


def test_a_disagreement_fails(
    result: Json, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "run", lambda options: result | {"agrees": False})
    assert speed.main(["--data", ""]) == 1
    assert "DISAGREE" in capsys.readouterr().out


def test_data_that_are_not_there_are_a_mistake_of_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        speed.main(["--data", str(tmp_path), "--suite", "tofu"])
    assert stopped.value.code == 2
    assert "There is no data folder" in capsys.readouterr().err


def test_agreement_by_hand() -> None:
    """2 and 2.0002 lie 1e-4 of the larger apart; 1e-5 and 2e-5 count as 1e-3 large, or .1 in min-k++; NaN never agrees."""
    assert speed.apart(2.0, 2.0002, "mia_loss") == pytest.approx(0.0002 / 2.0002)
    assert speed.apart(1e-5, 2e-5, "mia_loss") == pytest.approx(1e-2)
    assert speed.apart(1e-5, 2e-5, "mia_min_k_plus_plus") == pytest.approx(1e-4)
    assert speed.apart(float("nan"), 1.0, "mia_loss") == float("inf")
    key = ("metric", "probe", "answer", "0")
    one, other = speed.Found({key: 1.0}, {key: "a"}), speed.Found({key: 1.0}, {key: "b"})
    assert speed.agreement(one, one)["agrees"]
    assert not speed.agreement(one, other)["agrees"]
    assert not speed.agreement(one, speed.Found({key: 1.001}, {key: "a"}))["agrees"]


def test_floor_by_hand() -> None:
    """<bos> w1 -> w2 w3 and w2 w4: read are bos, w1 and w2 once. A prompt w1 w2 alone: bos, w1, w2, and its steps."""

    def asked(kind: str, *payloads: dict[str, Any]) -> Probe:
        return Probe(kind, kind, tuple(Example(str(i), {"template": "continue", **p}) for i, p in enumerate(payloads)))

    texts = {"prompt": "w1", "answer": "w2 w3"}, {"prompt": "w1", "answer": "w2 w4"}
    assert speed.floor(tokenizer(), [asked("logprob", *texts)], 0) == 3
    assert speed.floor(tokenizer(), [asked("logprob", *texts), asked("reference", *texts)], 0) == 6
    assert speed.floor(tokenizer(), [asked("gradnorm", *texts)], 0) == 6
    assert speed.floor(tokenizer(), [asked("generate", {"prompt": "w1 w2", "answer": "w3"})], 5) == 8
