"""Faithfulness and robustness, worked by hand."""

from __future__ import annotations

import pytest

from bench.studies.ablations.meta_formulas import (
    agreement,
    find_threshold,
    harmonic,
    measure_auc,
    relearning_ratio,
    relearning_symmetric,
    rounding_ratio,
)


@pytest.mark.parametrize(
    ("knowing", "ignorant", "area"),
    [
        ([3, 4], [1, 2], 1.0),
        ([1, 2], [3, 4], 0.0),
        ([1, 1, 1], [1, 1], 0.5),  # nothing but ties
        ([2, 3], [1, 2], 3.5 / 4),  # pairs 2>1, 2=2 (half), 3>1, 3>2
        ([0, 5], [0, 0, 9], 3 / 6),  # 0 ties twice (1), 5 beats two zeros (2), 9 beats both: 3 of 6
    ],
)
def test_auc_is_the_share_of_pairs_with_ties_half(knowing: list[float], ignorant: list[float], area: float) -> None:
    assert measure_auc(knowing, ignorant) == pytest.approx(area)


def test_auc_of_an_empty_side_is_none() -> None:
    assert measure_auc([], [1.0]) is None and measure_auc([1.0], []) is None


def test_the_threshold_lies_in_the_gap_or_where_fewest_are_mistaken() -> None:
    assert find_threshold([0.9, 0.8], [0.2, 0.4]) == pytest.approx(0.6)
    # 0.1 among the knowing is lost at every good place; above 0.3 all ignorant are right, and 2 of 3 knowing.
    assert find_threshold([0.1, 0.8, 0.9], [0.2, 0.3]) == pytest.approx(0.55)
    # Pools of other sizes count alike: 1 of 1 knowing is as much as 4 of 4 ignorant.
    assert find_threshold([0.5], [0.1, 0.2, 0.3, 0.6]) == pytest.approx(0.4)
    assert find_threshold([0.5], [0.5]) == 0.5


def test_relearning_in_the_ratio_form() -> None:
    # The oracle rises by 0.2 and the unlearned model by 0.4: half of that was there before. By 0.1: no more than 1.
    assert relearning_ratio((0.1, 0.5), (0.1, 0.3)) == pytest.approx(0.5)
    assert relearning_ratio((0.1, 0.2), (0.1, 0.3)) == 1.0
    assert relearning_ratio((0.1, 0.1), (0.1, 0.3)) is None, "it doesn't rise"
    assert relearning_ratio((0.3, 0.1), (0.1, 0.3)) is None
    assert relearning_ratio((0.1, 0.3), (0.3, 0.1)) is None


def test_relearning_in_the_symmetric_form() -> None:
    # 1 - |0.4 - 0.2| / 0.6; other than the ratio it falls on both sides, and with the opposite sign it is 0.
    assert relearning_symmetric((0.1, 0.5), (0.1, 0.3)) == pytest.approx(2 / 3)
    assert relearning_symmetric((0.1, 0.2), (0.1, 0.3)) == pytest.approx(2 / 3)
    assert relearning_symmetric((0.3, 0.1), (0.1, 0.3)) == pytest.approx(0.0)
    assert relearning_symmetric((0.5, 0.5), (0.2, 0.2)) is None


def test_rounding_in_both_forms() -> None:
    assert rounding_ratio(0.2, 0.8) == pytest.approx(0.25) and rounding_ratio(0.8, 0.2) == 1.0
    assert rounding_ratio(0.0, 0.5) == 0.0 and rounding_ratio(0.0, 0.0) is None
    assert agreement(0.2, 0.8) == agreement(0.8, 0.2) == pytest.approx(0.4)  # 1 - 0.6 / 1
    assert agreement(0.0, 0.0) is None and agreement(0.3, 0.3) == 1.0


def test_robustness_needs_both_and_is_their_harmonic_mean() -> None:
    assert harmonic(0.5, 1.0) == pytest.approx(2 / 3) and harmonic(0.0, 1.0) == 0.0
    assert harmonic(None, 1.0) is None and harmonic(0.5, None) is None
