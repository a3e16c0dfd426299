"""The device check runs whole on a CPU at small sizes, and says so where something is wrong. No GPU is needed here."""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.gpu import check
from tests.gpu.check import (
    AGREE,
    LIMITS,
    Row,
    compare_answers,
    compare_scores,
    flipped_share,
    markdown,
    memory_row,
    run_step,
)
from tests.gpu.scripts import FOLDER, run_script

run = partial(run_script, "check.sh")


@pytest.mark.slow
def test_the_script_runs_whole_at_small_sizes(tmp_path: Path) -> None:
    done = run(str(tmp_path / "out"), "--device", "cpu", "--small")
    assert done.returncode == 0, done.stdout + done.stderr
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    rows = {row["what"]: row for row in table["rows"]}
    assert table["passed"] and table["machine"]["device"] == "cpu"
    assert rows["forget_Q_A_Prob"]["apart"] == "0.0e+00" and rows["kl_forget"]["good"]
    assert rows["log-probs: waits for the device"]["good"]
    for name in ("train: peak memory", "eval: peak memory", "eval: logprob", "eval: generate", "eval: gradnorm"):
        assert name in rows
    assert any(name.startswith("train, ") and "tokens/s" in row["device"] for name, row in rows.items())
    page = (tmp_path / "out" / "table.md").read_text()
    assert page in done.stdout and page.count("\n| ") == len(rows) + 2 and "FAILED" not in page


def test_what_cannot_run_is_one_sentence(tmp_path: Path) -> None:
    done = run(str(tmp_path), "--device", "cpu")
    assert done.returncode == 2 and "--device cpu needs --small" in done.stderr
    if not os.path.exists("/dev/nvidiactl"):
        done = run(OUT=str(tmp_path / "named"))
        assert done.returncode == 2 and "this machine shows no GPU" in done.stderr and (tmp_path / "named").is_dir()


def test_a_score_that_moves_fails() -> None:
    good, bad = compare_scores({"a": 0.5, "b": -200.0}, {"a": 0.5 + AGREE / 2, "b": -200.1}, 0.0)
    assert good.good and good.apart == "5.0e-05" and bad.good is False
    (excused,) = compare_scores({"a": 0.5}, {"a": 0.505}, 0.01)
    assert excused.good and excused.allowed == "1.0e-02", "a hundredth of the texts may move a mean by as much"
    (other,) = compare_scores({"a": 0.5}, {"b": 0.5}, 0.0)
    assert other.good is False


def rows(logp: float, text: str) -> dict[str, Any]:
    return {"p": {"x": {"answer": [{"logp": [-1.0, logp]}]}, "y": {"text": "a"}, "z": {"text": text}}}


def test_a_log_prob_or_a_text_that_moves_fails() -> None:
    assert [row.good for row in compare_answers(rows(-2, "b"), rows(-2, "b"))] == [True, True]
    assert [row.good for row in compare_answers(rows(-2, "b"), rows(-2.001, "b"))] == [False, True]
    assert [row.good for row in compare_answers(rows(-2, "b"), rows(-2, "c"))] == [True, False]
    assert flipped_share(rows(-2, "b"), rows(-2, "c")) == 0.5
    missing: dict[str, Any] = {"p": {}}
    assert compare_answers(missing, missing)[0].good is False, "no log-prob at all is no agreement"


def test_a_peak_far_from_its_estimate_fails() -> None:
    assert memory_row("m", 100, 100, True, 2.0).good and memory_row("m", 100, 1000, True, None).good
    assert memory_row("m", 120, 100, True, None).good is False, "a plan would let in what doesn't fit"
    assert memory_row("m", 100, 300, True, 2.0).good is False, "and refuse what does"
    assert memory_row("m", 120, 100, False, 2.0).good is None


@pytest.mark.slow(12)
def test_a_step_that_fails_or_hangs_is_a_failed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = argparse.Namespace(out=tmp_path, device="cpu", small=True)
    monkeypatch.setitem(LIMITS, "eval", 20)
    (failed,) = run_step("eval", asked, tmp_path)  # nothing was trained before
    assert failed.good is False and "ended with 1" in failed.device
    monkeypatch.setitem(LIMITS, "scores", 0.1)
    (late,) = run_step("scores", asked, tmp_path)
    assert late.good is False and "longer than 0.1 s" in late.device
    assert "**FAILED**" in markdown({"device": "x"}, [failed, Row("a", "b")])


def test_the_steps_end_within_eight_minutes() -> None:
    granted = int(
        next(
            word
            for line in (FOLDER / "check.sh").read_text().splitlines()
            if "exec timeout" in line
            for word in line.split()
            if word.isdigit()
        )
    )
    assert sum(LIMITS.values()) < granted < 480 and LIMITS.keys() == check.STEPS.keys()
