"""KL between classifiers and its floor on rows worked by hand, and what a collapse is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import log

import pytest

from bench.core.errors import Absent
from bench.core.types import Responses
from bench.metrics.classes import class_kl, class_kl_floors, swallowed
from bench.metrics.probability import accuracy

NAN = float("nan")


def said(checkpoint: str, *rows: Sequence[float]) -> Responses:
    """Probabilities of the classes, row by row; the first class is right."""
    made = {}
    for number, row in enumerate(rows):
        logps = [log(p) if p == p else p for p in row]
        hit = int(max(row) == row[0])
        made[str(number)] = {"answer": [{"logp": logps[:1], "hit": [hit], "eos": False}], "classes": logps}
    return Responses(checkpoint, {"p": made})


HALVES, QUARTERS = (0.5, 0.5), (0.25, 0.75)


def test_kl_by_hand() -> None:
    """KL(halves || quarters) = 1/2 ln 2 + 1/2 ln 2/3 = 1/2 ln 4/3 = .143841; of a distribution with itself 0."""
    score = class_kl("kl", "p").compute(said("m", QUARTERS, HALVES), [said("o", HALVES, HALVES)])
    assert (score.value, score.n, score.unit) == (pytest.approx(0.143841 / 2, abs=1e-6), 2, "nats")
    other = class_kl("kl", "p").compute(said("m", HALVES), [said("o", QUARTERS)])
    assert other.value == pytest.approx(0.25 * log(0.5) + 0.75 * log(1.5)), "the oracle's distribution weighs"


def test_inside_an_example_the_mean_over_oracles() -> None:
    score = class_kl("kl", "p").compute(said("m", QUARTERS), [said("o", HALVES), said("o2", QUARTERS)])
    assert score.value == pytest.approx(log(4 / 3) / 4)


def test_kl_in_floors_by_hand() -> None:
    """The oracles: 1/2 ln 4/3 = .1438 one way, 1/4 ln 1/2 + 3/4 ln 3/2 = .1308 the other; the floor is their mean."""
    oracles = [said("a", HALVES), said("b", QUARTERS)]
    floor = (0.143841 + 0.130812) / 2
    score = class_kl_floors("kl", "p").compute(said("m", QUARTERS), oracles)
    assert (score.value, score.unit) == (pytest.approx(0.143841 / 2 / floor, abs=1e-5), "floors")


def test_a_floor_needs_two_oracles_beside_the_model() -> None:
    with pytest.raises(Absent, match="two oracles"):
        class_kl_floors("kl", "p").compute(said("m", HALVES), [said("a", HALVES)])
    with pytest.raises(Absent, match="do not differ"):
        class_kl_floors("kl", "p").compute(said("m", HALVES), [said("a", HALVES), said("b", HALVES)])


def test_of_an_oracle_with_an_impossible_class_there_is_no_floor() -> None:
    """KL from an oracle to one that gives a class of its no probability is infinite, and anything is 0 beside it."""
    impossible = Responses("b", {"p": {"0": {"classes": [0.0, -math.inf]}}})
    with pytest.raises(Absent, match="the outputs of one are broken"):
        class_kl_floors("kl", "p").compute(said("m", HALVES), [said("a", QUARTERS), impossible])


def test_a_broken_model_has_no_kl_and_is_collapsed() -> None:
    broken = said("m", (NAN, NAN), HALVES)
    with pytest.raises(Absent, match="no finite number"):
        class_kl("kl", "p").compute(broken, [said("o", HALVES, HALVES)])
    assert swallowed("collapsed", "p", accuracy("a", "p", "up"), 0.0).compute(broken, ()).value == 1


@pytest.mark.parametrize(
    ("rows", "floor", "flag"),
    [
        ([(0.6, 0.3, 0.1), (0.6, 0.3, 0.1), (0.1, 0.3, 0.6), (0.1, 0.6, 0.3)], 0.5, 1),  # 2 of 4 in one class
        ([(0.6, 0.3, 0.1), (0.1, 0.3, 0.6), (0.1, 0.6, 0.3)], 0.3, 0),
        ([(0.6, 0.3, 0.1), (0.1, 0.3, 0.6), (0.1, 0.6, 0.3)], 0.5, 1),  # right in 1 of 3, below the floor
    ],
)
def test_collapse_is_one_class_for_half_of_the_rows_or_no_use(rows: list[list[float]], floor: float, flag: int) -> None:
    found = swallowed("collapsed", "p", accuracy("a", "p", "up"), floor).compute(said("m", *rows), ())
    assert (found.value, found.n) == (flag, len(rows))
