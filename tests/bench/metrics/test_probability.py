"""Probabilities, accuracy and memorisation on rows worked by hand."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest

from bench.core.errors import Absent
from bench.core.types import Responses
from bench.metrics.probability import (
    accuracy,
    exact_memorization,
    extraction_strength,
    normalised_probability,
    probability,
)


def text(logp: list[float], hit: list[int] | None = None, eos: bool = True) -> dict[str, Any]:
    return {"logp": logp, "hit": [1] * len(logp) if hit is None else hit, "eos": eos}


def asked(rows: dict[str, dict[str, Any]]) -> Responses:
    return Responses("hash", {"p": rows})


def answers(*found: dict[str, Any]) -> Responses:
    return asked({str(i): {"answer": [one]} for i, one in enumerate(found)})


def test_probability_is_the_mean_over_rows_of_the_geometric_mean_per_token() -> None:
    responses = answers(text([log(0.5), log(0.125)]), text([log(0.75)]), text([]))
    score = probability("x", "p", goal="up").compute(responses, [])
    # sqrt(0.5 * 0.125) = 0.25; (0.25 + 0.75) / 2 = 0.5; the row without tokens does not count
    assert score.value == pytest.approx(0.5)
    assert score.n == 2


def test_wrong_answers_are_averaged_inside_the_row_first() -> None:
    rows = {"a": {"wrong": [text([log(0.2)]), text([log(0.4)])]}, "b": {"wrong": [text([log(0.1)])]}}
    score = probability("x", "p", "wrong", goal="oracle").compute(asked(rows), [])
    # ((0.2 + 0.4) / 2 + 0.1) / 2 = 0.2, where the mean over all three would be 0.2333
    assert score.value == pytest.approx(0.2)


def test_accuracy_asks_for_every_token_and_the_eos() -> None:
    responses = answers(text([-1.0, -1.0], [1, 1]), text([-1.0, -1.0], [1, 0]), text([-1.0], [0]), text([]))
    score = accuracy("x", "p", goal="up").compute(responses, [])
    assert score.value == pytest.approx(1 / 3)
    assert score.n == 3


def test_normalised_probability() -> None:
    rows = {"a": {"answer": [text([log(0.3)])], "wrong": [text([log(p)]) for p in (0.1, 0.1, 0.1)]}}
    # 0.3 / (0.3 + 0.3)
    assert normalised_probability("x", "p").compute(asked(rows), []).value == pytest.approx(0.5)


def test_normalised_probability_of_a_collapsed_model_is_not_the_best() -> None:
    rows = {"a": {"answer": [text([-80.0])], "wrong": [text([-90.0])]}, "b": {"answer": [text([-900.0])], "wrong": []}}
    score = normalised_probability("x", "p").compute(asked(rows), [])
    # exp(-80) / (exp(-80) + exp(-90) + 1e-10) = 1.8e-35 / 1e-10; row b has no wrong answer
    assert score.value == pytest.approx(exp(-80) / 1e-10, rel=1e-6)
    assert score.n == 1


def test_memorisation_drops_the_eos_and_nothing_else() -> None:
    with_eos = text([-1.0] * 4, [0, 1, 1, 0], eos=True)
    without = text([-1.0] * 4, [0, 1, 1, 1], eos=False)
    # with eos: hits 0 1 1 -> 2/3; without: 3/4
    score = exact_memorization("x", "p").compute(answers(with_eos, without), [])
    assert score.value == pytest.approx((2 / 3 + 3 / 4) / 2)
    # extraction: k = 1 of n = 3 -> 2/3, and k = 1 of n = 4 -> 3/4
    assert extraction_strength("x", "p").compute(answers(with_eos, without), []).value == pytest.approx(17 / 24)


def test_extraction_strength_where_nothing_is_right_is_zero() -> None:
    wrong, one_wrong = text([-1.0] * 4, [0] * 4, eos=False), text([-1.0], [0], eos=False)
    only_eos = text([-1.0], [1], eos=True)
    score = extraction_strength("x", "p").compute(answers(wrong, one_wrong, only_eos), [])
    # the peer has 1/4 and 1.0 here; the row that is nothing but an eos does not count
    assert score.value == 0.0
    assert score.n == 2


def test_extraction_strength_counts_the_unbroken_end() -> None:
    # all right from position 3 of 5: 1 - 3/5, though four of five tokens are hits
    broken = text([-1.0] * 5, [1, 1, 0, 1, 1], eos=False)
    assert extraction_strength("x", "p").compute(answers(broken), []).value == pytest.approx(0.4)


def test_what_was_not_asked_is_absent() -> None:
    with pytest.raises(Absent, match="'q' was not asked"):
        probability("x", "q", goal="up").compute(answers(text([-1.0])), [])
    with pytest.raises(Absent, match="'paraphrase'"):
        probability("x", "p", "paraphrase", goal="up").compute(answers(text([-1.0])), [])
