"""What the ladder's costs say: fits, and predictions by hand."""

from __future__ import annotations

import pytest

from bench.studies.ablations.costing import (
    METHODS,
    RunCost,
    TimeFit,
    fit_cost_rules,
    fit_seconds,
    ladder_costs,
    predict_cost,
)
from tests.costs import TOKENS, derived, made_up


def test_the_oracles_and_the_methods_costs_are_read() -> None:
    found = ladder_costs(derived(made_up()))
    assert len(found) == 4 * 2 * (len(METHODS) + 1) and {c.method for c in found} == {*METHODS, "oracle"}
    assert found[0] == RunCost(
        "oracle", 0, 290_400, TOKENS, found[0].seconds, 6 * 290_400 * TOKENS, 604_646_400, 4_323_200, 2, 96
    )


def test_a_fit_by_hand() -> None:
    """Two points lie on it: 1 s at 10 operations and 3 s at 50 are half a second and 20 a second."""
    found = fit_seconds([(10, 1.0), (50, 3.0)])
    assert found is not None
    assert (found.overhead, found.rate) == (pytest.approx(0.5), pytest.approx(20)) and found.seconds(
        90
    ) == pytest.approx(5)


def test_an_overhead_is_never_negative() -> None:
    """1 s at 10 and 4 s at 20 would begin at -2 s. Without overhead the slope b minimises (10b - 1)^2 + (5b - 1)^2,
    which is at b = 15 / 125."""
    assert fit_seconds([(10, 1.0), (20, 4.0)]) == TimeFit(0.0, pytest.approx(125 / 15))


@pytest.mark.parametrize("points", [[], [(10, 1.0)], [(10, 1.0), (10, 2.0)], [(10, 3.0), (50, 1.0)]])
def test_nothing_is_fitted_where_seconds_dont_grow(points: list[tuple[float, float]]) -> None:
    assert fit_seconds(points) is None


def test_what_the_ladder_predicts_by_hand() -> None:
    """Of the made-up rules, at a hundred times the size and a tenth of the tokens, three checkpoints."""
    rule = fit_cost_rules(ladder_costs(derived(made_up())))
    found = predict_cost(RunCost("npo", 0, 100_000_000, 10_000, 0.0, None, 0, 0, 3), rule)
    assert found.flops == pytest.approx(6e12)
    assert found.seconds == pytest.approx(0.5 + 6e12 / 20e9)
    assert found.peak_bytes == pytest.approx(0.6e9 + 1.6e9)
    assert found.bytes_stored == pytest.approx(3 * (0.4e9 + 1e6))
