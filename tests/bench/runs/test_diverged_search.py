"""A search whose settings partly diverge: the record says so, and the choice is among the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.core.machine import Machine
from bench.core.types import BROKEN_DOWN
from bench.runs import search, selection
from bench.runs.asked import Asked
from bench.runs.executor import in_step
from tests.lab_runs import SMALL, step

GOOD, DIVERGED = step("ga", steps=2, lr=1e-4), step("ga", steps=2, lr=1e30)


def tuned(steps: Sequence[Any], folder: Path, monkeypatch: pytest.MonkeyPatch, write: bool = False) -> Any:
    """The record of a search over these settings, in this process."""
    monkeypatch.setattr(selection, "steps_for", lambda *_: list(steps))
    monkeypatch.setattr(search, "carry_out", lambda jobs, config: in_step(jobs, config, lambda event: None))
    count = len(steps)
    asked = Asked("tofu", ("ga",), tuple(f"tofu.{name}={value}" for name, value in SMALL.items()), (100,))
    assert search.tune_command(asked, Machine(folder / "out", folder / "store", 1), count, write) is False
    return json.loads((folder / "out" / "tune" / "lab-tofu-ga.json").read_text(), parse_constant=pytest.fail)


def test_a_diverged_setting_leaves_the_others_to_choose_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tuned([DIVERGED, GOOD], tmp_path, monkeypatch)
    assert record["chosen"] == 1 and record["params"]["lr"] == 1e-4
    assert record["settings"][0]["broken"] == BROKEN_DOWN and "broken" not in record["settings"][1]
    assert f"(1 of 2 BROKEN: {BROKEN_DOWN})" in capsys.readouterr().out


def test_where_every_setting_diverges_nothing_is_chosen_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "write_choice", pytest.fail)
    record = tuned([DIVERGED], tmp_path, monkeypatch, write=True)
    assert record["chosen"] is None and record["params"] == {}
    assert f"ga: no setting works (1 of 1 BROKEN: {BROKEN_DOWN})" in capsys.readouterr().out
