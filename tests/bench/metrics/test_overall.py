"""The two parts of the field's overall score, worked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

import pytest

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.record import Score
from bench.core.types import Responses
from bench.metrics import score_all
from bench.metrics.overall import field_memorisation, field_privacy
from bench.metrics.truth import truth_ratio

PRIVACY = field_privacy("field_privacy", "in", "out")


def part(name: str, value: float, n: int = 4) -> Metric:
    return Metric(name, lambda *_: Score(value, n), "oracle")


def test_memorisation_by_hand() -> None:
    """1 - (.5, .5, .75, .2) = .5, .5, .25, .8: 4 / (2 + 2 + 4 + 1.25) = .432432."""
    parts = [part("a", 0.5), part("b", 0.5, 3), part("c", 0.75), part("d", 0.2)]
    score = field_memorisation("field_memorisation", parts).compute(Responses("m", {}), [])
    assert score.value == pytest.approx(4 / 9.25) and score.n == 3
    whole = field_memorisation("field_memorisation", [part("a", 1.0), part("b", 0.1)])
    assert whole.compute(Responses("m", {}), []).value == 0.0, "one that is known by heart"
    assert whole.late and whole.goal == "up"


def test_an_absent_part_makes_it_absent() -> None:
    metric = field_memorisation("x", [truth_ratio("truth_share", "asked", form="share", goal="oracle")])
    with pytest.raises(Absent, match="the probe 'asked' was not asked"):
        metric.compute(Responses("m", {}), [])


@pytest.mark.parametrize("broken", [float("-inf"), float("inf"), float("nan")])
def test_a_part_that_is_no_number_makes_it_absent_and_never_its_best(broken: float) -> None:
    with pytest.raises(Absent, match="it comes to no finite number"):
        field_memorisation("x", [part("a", 0.5), part("b", broken)]).compute(Responses("m", {}), [])


def test_the_share_of_the_right_answer() -> None:
    """Right 1/2, wrong sqrt(1/8 * 1/2) = 1/4: (1/2) / (3/4) = 2/3; far apart: e^-9000 is no share."""

    def row(right: float, *wrong: float) -> dict[str, Any]:
        return {
            role: [{"logp": [-loss], "hit": [1], "eos": True} for loss in losses]
            for role, losses in (("paraphrase", (right,)), ("wrong", wrong))
        }

    share = truth_ratio("truth_share", "asked", form="share", goal="oracle")
    assert share.compute(Responses("m", {"asked": {"a": row(log(2), log(8), log(2))}}), []).value == pytest.approx(
        2 / 3
    )
    far = {"a": row(9000.0, 0.1), "b": row(0.1, 9000.0)}
    assert share.compute(Responses("m", {"asked": far}), []).value == pytest.approx(0.5)


def texts(logps: Sequence[float]) -> dict[str, Any]:
    """A row for each log-prob: one token and no eos, so that loss, min-k and min-k++ order the rows alike."""
    return {
        f"e{i}": {"answer": [{"logp": [p], "hit": [1], "eos": False, "mu": [0.0], "sigma": [1.0], "zlib": 10}]}
        for i, p in enumerate(logps)
    }


def said(name: str, members: Sequence[float], others: Sequence[float]) -> Responses:
    return Responses(name, {"in": texts(members), "out": texts(others)})


ORACLE = said("o", [-1.0, -3.0], [-2.0, -2.5])
"""AUC: an other scores above the first member twice and above the second never: 2/4."""


def test_privacy_by_hand() -> None:
    """AUCs 3/4 against the oracle's 1/2: 1 - .25/.5 = .5 by every attack; 4/4 against 1/2: 0."""
    score = PRIVACY.compute(said("m", [-1.0, -2.2], [-2.0, -2.5]), [ORACLE])
    assert score.value == pytest.approx(0.5) and score.n == 4
    assert PRIVACY.compute(said("m", [-1.0, -1.5], [-2.0, -2.5]), [ORACLE]).value == 0.0
    assert PRIVACY.compute(said("m", [-1.0, -3.0], [-2.0, -2.5]), [ORACLE]).value == 1.0


def test_the_oracles_are_averaged_and_an_auc_of_0_measures_nothing() -> None:
    """Oracles of 2/4 and 4/4 have the mean 3/4; ours is 2/4: 1 - .25/.75 = 2/3."""
    other = said("p", [-1.0, -1.5], [-2.0, -2.5])
    assert PRIVACY.compute(said("m", [-1.0, -3.0], [-2.0, -2.5]), [ORACLE, other]).value == pytest.approx(2 / 3)
    with pytest.raises(Absent, match="the oracle's AUC by loss is 0"):
        PRIVACY.compute(ORACLE, [said("p", [-3.0, -4.0], [-2.0, -2.5])])
    assert "needs an oracle other" in score_all([PRIVACY], ORACLE, [ORACLE]).absent["field_privacy"]
