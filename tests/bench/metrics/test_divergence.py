"""KL to the oracles and in units of their noise, on rows worked by hand."""

from __future__ import annotations

import pytest

from bench.core.errors import Absent
from bench.core.types import Responses
from bench.metrics.divergence import kl, kl_floors

MODEL = Responses("m", {"p": {"a": {"o0": [1.0, 3.0], "o1": [4.0, 4.0]}, "b": {"o0": [0.5], "o1": [0.5]}}})
ORACLES = (
    Responses("h0", {"p": {"a": {"o1": [0.1, 0.3]}, "b": {"o1": [0.4]}}}),
    Responses("h1", {"p": {"a": {"o0": [0.1, 0.1]}, "b": {"o0": [0.1]}}}),
)


def test_kl_by_hand() -> None:
    score = kl("kl", "p").compute(MODEL, ORACLES)
    # a: ((1 + 3) / 2 + (4 + 4) / 2) / 2 = 3; b: 0.5; mean 1.75
    assert (score.value, score.n, score.unit) == (pytest.approx(1.75), 2, "nats/token")


def test_kl_in_floors_by_hand() -> None:
    score = kl_floors("kl", "p").compute(MODEL, ORACLES)
    # oracle 0: (0.2 + 0.4) / 2 = 0.3; oracle 1: 0.1; floor 0.2; 1.75 / 0.2
    assert (score.value, score.unit) == (pytest.approx(8.75), "floors")
    assert score.low is not None and score.high is not None and score.low < score.value < score.high


def test_the_oracles_own_row_is_measured_by_the_other_oracle() -> None:
    # 0.3 over oracle 1's own 0.1
    assert kl_floors("kl", "p").compute(ORACLES[0], ORACLES[1:]).value == pytest.approx(3.0)


def test_without_a_second_oracle_there_is_no_floor() -> None:
    alone = Responses("h0", {"p": {"a": {}, "b": {}}})
    with pytest.raises(Absent, match="two oracles"):
        kl_floors("kl", "p").compute(MODEL, [alone])
    with pytest.raises(Absent, match="no finite number"):
        kl_floors("kl", "p").compute(MODEL, [Responses("h0", {"p": {"a": {"o1": [float("inf")]}}})])
    with pytest.raises(Absent, match="do not differ"):
        kl_floors("kl", "p").compute(MODEL, [Responses("h0", {"p": {"a": {"o1": [0.0]}}})])


def test_examples_without_answer_tokens_are_left_out() -> None:
    found = Responses("m", {"p": {"a": {"o0": [], "o1": []}, "b": {"o0": [2.0], "o1": [4.0]}}})
    assert kl("kl", "p").compute(found, []).value == pytest.approx(3.0)
    with pytest.raises(Absent, match="no row"):
        kl("kl", "p").compute(Responses("m", {"p": {"a": {}}}), [])
