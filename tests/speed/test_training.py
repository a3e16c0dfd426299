"""The training's speed benchmark runs and says both rates; its operations are the batches' own. No seconds."""

from __future__ import annotations

import sys

import pytest

from bench.core.contracts import Stream
from bench.engines.coding import Texts
from bench.engines.training.losses import descent
from tests.speed import training as speed_training
from tests.tiny import qa, tokenizer


def test_it_says_both_rates_and_their_ratio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["training", "--steps", "1", "--tries", "1", "--books", "2"])
    speed_training.main()
    name, rates, ratio = (cell.strip() for cell in capsys.readouterr().out.strip().strip("|").split("|")[:3])
    assert name.startswith("GFLOP/s of lab training")
    assert all(float(rate) > 0 for rate in rates.split(",")) and float(ratio) > 0


def test_twice_the_steps_on_rows_of_one_length_are_twice_the_operations() -> None:
    rows = tuple(qa(i, f"w{i} w3 ?", "w5") for i in range(4))
    streams = (Stream(rows, 2, descent()),)
    one, two = (speed_training.operations(Texts(tokenizer()), streams, steps) for steps in (1, 2))
    assert two == 2 * one > 0
