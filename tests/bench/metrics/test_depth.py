"""Scores of depth, worked by hand: what the oracle's states cost the target, and how much of it the model's cost too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from bench.core.errors import Absent
from bench.core.types import Responses
from bench.metrics import score_all
from bench.metrics.depth import LEAST_LOSS, block_means, erasure, linear_probe_accuracy

UDS = erasure("uds", "p", "patching")
LINEAR = linear_probe_accuracy("linear_probe_accuracy", "p")
ORACLE = {"a": [0.04, 1.0, 3.0], "b": [0.0, 0.5, 0.5], "c": [0.01, 0.02, LEAST_LOSS]}
"""No block of ``c`` is above the bound; of ``a`` and ``b`` the first isn't."""


def said(name: str, rows: Mapping[str, Sequence[float]], by: str = "patching") -> Responses:
    return Responses(name, {"p": {key: {by: list(values)} for key, values in rows.items()}})


def test_the_score_by_hand() -> None:
    """a: (min(.5, 1) + min(6, 3)) / 4 = .875; b: (0 + .25) / 1 = .25, as -2 counts as 0; c is left out. Mean .5625."""
    ours = said("model", {"a": [9.0, 0.5, 6.0], "b": [9.0, -2.0, 0.25], "c": [9.0, 9.0, 9.0]})
    score = UDS.compute(ours, [said("oracle-0", ORACLE)])
    assert (score.value, score.n) == (0.5625, 2) and score.low == 0.25 and score.high == 0.875
    assert UDS.goal == 1.0 and UDS.needs_oracle


def test_of_several_oracles_the_mean_of_those_that_tell() -> None:
    """a: .875 and, by the second oracle, (.5 + 2) / 4 = .625, mean .75; c by the second alone: 1."""
    ours = said("model", {"a": [9.0, 0.5, 6.0], "c": [9.0, 9.0, 9.0]})
    second = said("oracle-1", {"a": [0.0, 2.0, 2.0], "c": [0.0, 0.0, 1.0]})
    assert UDS.compute(ours, [said("oracle-0", ORACLE), second]).value == pytest.approx((0.75 + 1) / 2)


def test_the_target_has_0_and_what_is_as_the_oracle_1() -> None:
    oracle = said("oracle-0", ORACLE)
    assert UDS.compute(said("target", dict.fromkeys(ORACLE, [0.0, 0.0, 0.0])), [oracle]).value == 0
    assert UDS.compute(said("twin", ORACLE), [oracle]).value == 1


def test_what_cannot_be_had_is_absent() -> None:
    oracle = said("oracle-0", ORACLE)
    for ours, theirs, reason in (
        (said("m", {"c": [1.0, 1.0, 1.0]}), oracle, "no block's states of the oracle cost the target more than 0.05"),
        (Responses("m", {"p": {}}), oracle, "there is no target to patch"),
        (said("m", {"a": [1.0]}), oracle, "another number of decoder blocks"),
        (said("m", {"a": [0.0, math.inf, 0.0]}), oracle, "no finite number of nats"),
        (said("m", {"a": [1.0, 1.0, 1.0]}), said("o", {"a": [math.nan, 1.0, 1.0]}), "no finite number of nats"),
        (Responses("m", {}), oracle, "the probe 'p' was not asked"),
    ):
        with pytest.raises(Absent, match=reason):
            UDS.compute(ours, [theirs])
    assert "needs an oracle other" in score_all([UDS], oracle, [oracle]).absent["uds"]
    with pytest.raises(Absent, match="first tokens of no two answers"):
        LINEAR.compute(Responses("m", {"p": {"a": {}}}), [])


def test_a_linear_probe_has_the_best_blocks_accuracy() -> None:
    """Blocks: 1/4, 3/4, 2/4."""
    found = said("m", {"a": [1, 1, 1], "b": [0, 1, 1], "c": [0, 1, 0], "d": [0, 0, 0]}, "linear")
    score = LINEAR.compute(found, [])
    assert (score.value, score.n) == (0.75, 4) and score.low is not None and score.high is not None
    assert score.low <= 0.75 <= score.high == 1.0
    assert block_means(found, "p", "linear") == [0.25, 0.75, 0.5]


def test_means_of_blocks() -> None:
    assert block_means(said("m", {"a": [0.0, 2.0], "b": [1.0, 4.0]}), "p", "patching") == [0.5, 3.0]
