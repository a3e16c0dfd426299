"""The bootstrap is repeatable, and near the textbook interval."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bench.core.errors import Absent
from bench.metrics.bootstrap import area, bootstrap_auc, bootstrap_mean, interval, person_of, roc_auc
from bench.metrics.scores import finite_values, mean_score


def alone(count: int) -> list[str]:
    """Ids that name nobody, in their order."""
    return [f"row-{i:04}" for i in range(count)]


def test_whom_an_id_is_about() -> None:
    ids = ("author-3-birthplace-q1", "forget-0-c2", "forget-0-p0-home-q2", "full-3960", "mix_a0-15", "image-7")
    assert list(map(person_of, ids)) == ["author-3", "forget-0", "forget-0", "full-3960", "mix_a0-15", "image-7"]
    pooled = ("corrupted_questions/resident-0-job-q1", "clean_questions/resident-0-home-q2")
    assert list(map(person_of, pooled)) == ["resident-0", "resident-0"], "in whichever probe"


def test_people_are_drawn_and_bring_all_their_examples() -> None:
    seen = []
    interval(lambda a: seen.append(a) or a[:, 0].astype(float), ["b-1", "a-2", "b-1", "b-1"])
    counts = np.concatenate(seen)
    assert counts.shape == (1000, 4) and (counts[:, 0] == counts[:, 2]).all() and (counts[:, 0] == counts[:, 3]).all()
    assert (counts[:, 0] + counts[:, 1] == 2).all(), "two people are drawn"


def test_rows_of_few_people_tell_less_than_as_many_people() -> None:
    """Two authors of ten rows each, one all right and one all wrong: the mean is drawn as 0, .5 or 1, a quarter each end."""
    values = [1.0] * 10 + [0.0] * 10
    assert bootstrap_mean(values, ["a-0"] * 10 + ["a-1"] * 10) == (0.0, 1.0)
    low, high = bootstrap_mean(values, alone(20))
    assert low == pytest.approx(0.3, abs=0.06) and high == pytest.approx(0.7, abs=0.06)
    score = mean_score({f"author-{i // 10}-fact{i}-q1": value for i, value in enumerate(values)})
    assert (score.low, score.high) == (0.0, 1.0)
    one = mean_score({f"author-0-fact{i}-q1": float(i) for i in range(9)})
    assert (one.low, one.high) == (None, None), "one author alone tells nothing of authors"


def test_an_area_over_people_is_that_of_the_rows_they_bring() -> None:
    members, others = np.array([0.1, 0.4, 0.2]), np.array([0.3, 0.5])
    # the statistic of a resample that drew the owner of members 0 and 1 twice: two of each, and other 1 twice
    one = area(members, others, np.array([[2, 2, 0]]), np.array([[0, 2]]))
    assert one.tolist() == [roc_auc_score([0] * 4 + [1] * 2, [0.1, 0.1, 0.4, 0.4, 0.5, 0.5])]
    assert bootstrap_auc(members, others, ["a-1"] * 3, ["b-1", "b-2"]) == (None, None)


def test_mean_of_coin_flips_has_the_normal_interval() -> None:
    values = [1.0] * 50 + [0.0] * 50
    low, high = bootstrap_mean(values, alone(100))
    # 0.5 -+ 1.96 * sqrt(0.5 * 0.5 / 100) = 0.5 -+ 0.098; a draw of 100 moves in steps of 0.01
    assert low == pytest.approx(0.402, abs=0.02)
    assert high == pytest.approx(0.598, abs=0.02)
    assert (low, high) == bootstrap_mean(values, alone(100))


def test_each_group_is_drawn_whole_and_with_replacement() -> None:
    seen = []
    interval(lambda a, b: seen.append((a, b)) or a[:, 0].astype(float), alone(5), alone(3))
    a, b = (np.concatenate([pair[i] for pair in seen]) for i in (0, 1))
    assert a.shape == (1000, 5) and b.shape == (1000, 3)
    assert (a.sum(axis=1) == 5).all() and (b.sum(axis=1) == 3).all()
    assert a.max() > 1 and a.min() == 0


def test_auc_by_hand_with_ties() -> None:
    # pairs (member 1, other 1): tie, half; (1, 2): win; (3, 1): loss; (3, 2): loss -> 1.5 of 4
    assert roc_auc(np.array([1.0, 3.0]), np.array([2.0, 1.0])) == 0.375


def test_auc_equals_sklearn() -> None:
    rng = np.random.default_rng(3)
    members, others = rng.integers(20, size=150) / 7, rng.integers(5, 25, size=150) / 7
    labels = [0] * 150 + [1] * 150
    assert roc_auc(members, others) == pytest.approx(
        roc_auc_score(labels, np.concatenate([members, others])), rel=1e-11
    )
    low, high = bootstrap_auc(members, others, alone(150), alone(150))
    assert low is not None and high is not None and low < roc_auc(members, others) < high


def test_auc_interval_equals_resampling_by_hand() -> None:
    members, others = np.array([0.1, 0.4, 0.2]), np.array([0.3, 0.5])
    low, high = bootstrap_auc(members, others, alone(3), alone(2))
    assert low is not None and low >= 0.0 and high == 1.0
    # the statistic of one resample: member 1 twice, member 2 once, other 0 twice
    one = area(members, others, np.array([[0, 2, 1]]), np.array([[2, 0]]))
    assert one.tolist() == [pytest.approx(roc_auc_score([0, 0, 0, 1, 1], [0.4, 0.4, 0.2, 0.3, 0.3]))]


def test_a_mean_says_what_is_behind_it() -> None:
    score = mean_score({"b": 1.0, "a": 2.0}, "nats")
    assert (score.value, score.n, score.unit) == (1.5, 2, "nats")
    assert (score.low, score.high) == (1.0, 2.0)
    alone = mean_score({"a": 2.0})
    assert (alone.low, alone.high) == (None, None)


def test_nothing_and_broken_values_are_absent() -> None:
    with pytest.raises(Absent, match="no example"):
        finite_values({})
    with pytest.raises(Absent, match="2 of 3"):
        mean_score({"a": float("nan"), "b": 1.0, "c": float("-inf")})
