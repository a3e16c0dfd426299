"""Noise by hand: oracles of a seed, second runs, and one row of a probe."""

from __future__ import annotations

import dataclasses

import pytest

from bench.core.record import Score
from bench.records.noise import difference, measure_noise, one_row, pooled_sd
from tests.factories import record


def test_pooled_by_hand() -> None:
    # around .2: .01 + 0 + .01; around .5: .04 + .04. Squares .1 over 2 + 1 degrees of freedom.
    assert pooled_sd([[0.1, 0.2, 0.3], [0.3, 0.7]]) == pytest.approx((0.1 / 3) ** 0.5)
    assert pooled_sd([[0.4], []]) == 0.0
    assert pooled_sd([[0.2] * 3, [0.7] * 3]) == 0.0, "fmean([.2] * 3) is not .2"


def test_a_difference_has_the_digits_of_what_it_is_measured_from() -> None:
    assert difference(0.7, 0.5) == 0.2 == difference(0.5, 0.3) and difference(0.3, 0.1 + 0.2) == 0.0
    assert difference(1.0 - 3e-9, 1.0) == -3e-9 and difference(1.0 - 3e-12, 1.0) == 0.0
    assert difference(2e-20, 5e-21) == 1.5e-20 and difference(-1234.5, 0.5) == -1235.0
    assert difference(3e-20, 0.0) == 3e-20 and difference(float("inf"), 1.0) == float("inf")


def test_three_oracles_of_each_seed_and_second_runs_are_pooled() -> None:
    oracles = {0: {"x": [0.1, 0.2, 0.3]}, 1: {"x": [0.5, 0.9]}, 2: {"x": [0.4, 0.4, 0.4]}}
    run, again = (record("npo", 0, {"x": value, "y": 0.25}, goals={"x": "up", "y": "up"}) for value in (0.3, 0.7))
    found = measure_noise(oracles, [(run, again)], [run])
    # seed 1 has two oracles alone. Squares .02 + 0 + .08 over 2 + 2 + 1
    assert found["x"].df == 5 and found["x"].sd == pytest.approx((0.1 / 5) ** 0.5)
    assert found["y"].sd == 0.0 and found["y"].df == 1
    assert measure_noise({1: oracles[1]}, [], [run]) == {}, "two oracles alone tell nothing"


def test_noise_is_never_below_one_row_of_a_share_of_rows() -> None:
    share, other = (
        dataclasses.replace(record("npo", 0, {"x": 0.0}, goals={"x": "up"}), scores=s)
        for s in ({"x": Score(0.75, 20)}, {"x": Score(0.5, 8)})
    )
    assert one_row("x", [share]) == 0.05 and one_row("x", [share, other]) == 0.125
    assert one_row("x", [dataclasses.replace(share, scores={"x": Score(0.751, 20)})]) == 0.0, "no share of 20 rows"
    assert measure_noise({0: {"x": [0.75, 0.75, 0.75]}}, [], [share])["x"].sd == 0.05
